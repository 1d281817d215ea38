import { Command, Option } from "commander";
import { architectures } from "../backbone/architectures/index.ts";
import { classificationLoss } from "../backbone/objective.ts";
import { checkName, resolveBackbone } from "../backbone/pull.ts";
import { openBackbone } from "../backbone/source.ts";
import { ForewordError } from "../errors.ts";
import { graphData, printGraph } from "../graph/print.ts";
import { trainingGraph } from "../training/graph.ts";
import { backboneOptions, settingsOf } from "./settings.ts";

export const graph = (): Command =>
  backboneOptions(new Command("graph"))
    .description("print the backbone's graph of one step, as a person reads it")
    .addOption(
      new Option("--gradient [method]", "with its gradient, as training a prefix or a soft prompt runs it")
        .choices(["prefix", "soft"])
        .preset("prefix"),
    )
    .option("--json", "print inputs, outputs, weights and nodes as JSON")
    .action(async ({ json, gradient: method, ...flags }) => {
      const { backbone, data, mirror } = settingsOf(flags);
      const path = await resolveBackbone(backbone, { data, ...(mirror !== undefined && { mirror }) });
      if (!path) {
        checkName(backbone);
        throw new ForewordError(
          "backbone_unavailable",
          `${backbone} is not here yet. Run foreword pull ${backbone} first.`,
        );
      }
      const source = await openBackbone(path);
      const step = architectures[source.config.architecture](source.config);
      const printed = method ? trainingGraph(classificationLoss(step), method) : step;
      await source.close();
      process.stdout.write(json ? `${JSON.stringify(graphData(printed))}\n` : printGraph(printed));
    });

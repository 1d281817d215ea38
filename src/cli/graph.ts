import { Command } from "commander";
import { architectures } from "../backbone/architectures/index.ts";
import { resolveBackbone } from "../backbone/pull.ts";
import { openBackbone } from "../backbone/source.ts";
import { ForewordError } from "../errors.ts";
import { printGraph } from "../graph/print.ts";
import { backboneOptions, settingsOf } from "./settings.ts";

export const graph = (): Command =>
  backboneOptions(new Command("graph"))
    .description("print the backbone's graph of one step, as a person reads it")
    .option("--json", "print inputs, outputs, weights and nodes as JSON")
    .action(async ({ json, ...flags }) => {
      const { backbone, data, mirror } = settingsOf(flags);
      const path = await resolveBackbone(backbone, { data, ...(mirror !== undefined && { mirror }) });
      if (!path)
        throw new ForewordError(
          "backbone_unavailable",
          `${backbone} is not here yet. Run foreword pull ${backbone} first.`,
        );
      const source = await openBackbone(path);
      const { constants, ...printed } = architectures[source.config.architecture](source.config);
      await source.close();
      process.stdout.write(json ? `${JSON.stringify(printed)}\n` : printGraph({ ...printed, constants }));
    });

import { Command, Option } from "commander";
import { backboneOptions, settingsOf } from "./settings.ts";

export const graph = (): Command =>
  backboneOptions(new Command("graph"))
    .description("print the backbone's graph of operators for one step, as a readable text")
    .addOption(
      new Option("--gradient [method]", "with its gradient, as training a prefix or a soft prompt runs it")
        .choices(["prefix", "soft"])
        .preset("prefix"),
    )
    .option("--json", "print inputs, outputs, weights and nodes as JSON")
    .action(async ({ json, gradient, ...flags }) => {
      const { backboneGraph } = await import("./backbone-graph.ts");
      process.stdout.write(await backboneGraph(await settingsOf(flags), gradient, json));
    });

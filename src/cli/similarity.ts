import { Command, Option } from "commander";
import type { SimilarityReport } from "../contract/transfer.ts";
import { call, print, type ServerFlags, serverOptions } from "./request.ts";
import { drawSimilarity, type Measure } from "./transfer-report.ts";

interface SimilarityFlags extends ServerFlags {
  kind?: string;
  by: Measure;
  all?: boolean;
}

const examples = `
Examples:
  foreword similarity
  foreword similarity sentiment spam reviews --kind prefix
  foreword similarity sentiment --all --by token_pairs`;

export const similarity = (): Command =>
  serverOptions(new Command("similarity"))
    .description("how alike trained prompts are: soft with soft, prefixes with prefixes")
    .argument("[tasks...]", "ids of tasks (default: all of them)")
    .addOption(new Option("--kind <kind>", "only prompts of this kind").choices(["soft", "prefix"]))
    .addOption(
      new Option("--by <measure>", "cosine of the averages over positions, or average cosine of all pairs")
        .choices(["average_tokens", "token_pairs"])
        .default("average_tokens"),
    )
    .option("--all", "every trained version, not one of each task")
    .addHelpText("after", examples)
    .action(async (tasks: string[], { kind, by, all, ...flags }: SimilarityFlags) => {
      const query = new URLSearchParams({
        ...(tasks.length > 0 && { tasks: tasks.join(",") }),
        ...(kind && { kind }),
        ...(all && { all: "true" }),
      });
      const report = await call<SimilarityReport>(flags, "GET", `/prompts/similarity?${query}`);
      print(flags.json, report, () => drawSimilarity(report, by));
    });

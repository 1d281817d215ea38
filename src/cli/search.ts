import { Command } from "commander";
import type { SearchRequest } from "../contract/search.ts";
import { ForewordError } from "../errors.ts";
import {
  type ActivateFlags,
  type Asked,
  activateOptions,
  activationOf,
  detachOption,
  type JobFlags,
  metricOption,
} from "./job-flags.ts";
import { route, serverOptions } from "./request.ts";
import { readText } from "./text-file.ts";
import { type DataFlags, dataOf, takesExamples } from "./upload.ts";
import { numberOf } from "./values.ts";
import { startJob } from "./watch.ts";

interface SearchFlags extends DataFlags, JobFlags, ActivateFlags {
  candidates?: string;
  patterns?: boolean;
  written?: number;
  verbalizers?: boolean;
  budget?: number;
  metric?: "accuracy" | "macro_f1" | "loss";
  seed?: number;
  keep?: number;
}

const examples = `
Examples:
  foreword search sentiment reviews.jsonl --if-better
  foreword search sentiment reviews.jsonl --candidates mine.json --keep 3
  foreword search sentiment reviews --dataset --budget 10000`;

export const search = (): Command =>
  activateOptions(
    takesExamples(
      serverOptions(new Command("search")).description(
        "look for a task's best hard prompt: wordings, worked examples and verbalizers, raced on data",
      ),
      0.3,
    ),
    "the best one",
  )
    .option(
      "--candidates <file>",
      'prompts of your own, a JSON list of {"template", "name"?, "verbalizers"?}',
    )
    .option("--no-patterns", "leave out the built-in wordings and worked examples")
    .option("--written <count>", "instructions that the model writes itself (default: 4)", numberOf)
    .option("--no-verbalizers", "keep the labels' texts as they are")
    .option("--budget <count>", "most answers that the race may take (default: 3000)", numberOf)
    .addOption(metricOption())
    .option("--seed <number>", "the same seed gives the same search (default: 0)", numberOf)
    .option("--keep <count>", "how many of the best become versions (default: 1)", numberOf)
    .addOption(detachOption())
    .addHelpText("after", examples)
    .action(async (task: string, data: string, flags: SearchFlags) => {
      const body = { ...(await settingsOf(flags)), ...(await dataOf(flags, task, data)) };
      await startJob(flags, route`/tasks/${task}/search`, body);
    });

async function settingsOf(flags: SearchFlags): Promise<Asked<Omit<SearchRequest, "examples" | "dataset">>> {
  const { written, budget, metric, seed, keep, candidates } = flags;
  return {
    candidates: candidates === undefined ? undefined : await listOf(candidates),
    // Commander sets what a --no- flag negates.
    ...(flags.patterns === false && { patterns: false }),
    ...(flags.verbalizers === false && { verbalizers: false }),
    written,
    budget,
    metric,
    seed,
    keep,
    activate: activationOf(flags),
  };
}

async function listOf(file: string): Promise<NonNullable<SearchRequest["candidates"]>> {
  try {
    return JSON.parse(await readText(file));
  } catch (error) {
    throw new ForewordError("validation", `${file} can't be read as JSON (${(error as Error).message}).`);
  }
}

import { Command, Option } from "commander";
import type { PromptRef } from "../contract/common.ts";
import type { Vote } from "../contract/task.ts";
import type { Init, Teacher, TrainRequest } from "../contract/train.ts";
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
import { initOf, numberOf, onOption } from "./values.ts";
import { startJob } from "./watch.ts";

interface TrainFlags extends DataFlags, JobFlags, ActivateFlags {
  method?: "prefix" | "soft" | "distill";
  teacher?: string;
  init?: Init;
  length?: number;
  steps?: number;
  learningRate?: number;
  batchSize?: number;
  maxTokens?: number;
  metric?: "accuracy" | "macro_f1" | "loss";
  seed?: number;
  template?: string;
  on?: PromptRef;
  ensemble?: number;
  vote?: Vote;
}

const examples = `
Examples:
  foreword train sentiment reviews.jsonl --if-better
  foreword train sentiment reviews.csv --validation dev.csv --steps 300 --activate
  foreword train sentiment reviews.jsonl --method distill --teacher handbook.txt
  foreword train sentiment reviews.jsonl --ensemble 5 --if-better
  foreword train reviews reviews.jsonl --init donor
  foreword train sentiment reviews --dataset --init text:"Is it good?" --detach`;

export const train = (): Command =>
  activateOptions(
    takesExamples(
      serverOptions(new Command("train")).description(
        "train a prompt for a task: a prefix or virtual tokens; the model stays as it is",
      ),
      0.1,
    ),
    "the new prompt",
  )
    .addOption(
      new Option("--method <method>", "what is trained (default: prefix)").choices([
        "prefix",
        "soft",
        "distill",
      ]),
    )
    .option(
      "--teacher <prompt>",
      "whose answers a distillation learns: a version, or a file of text that goes before the prompt (default: what is active)",
    )
    .option(
      "--init <start>",
      "where training begins: examples, labels, vocabulary, random, text:<words>, prompt:<task>/<version>, or donor: the best of other tasks' prompts (default: examples; for distill the teacher's words)",
      initOf,
    )
    .option(
      "--length <count>",
      "trained positions (default: as the start has, 16 to 64; 32 for distill)",
      numberOf,
    )
    .option("--steps <count>", "training steps (default: as the examples need)", numberOf)
    .option(
      "--learning-rate <rate>",
      "peak learning rate, relative to each tensor's size (default: 0.02 for a prefix, 0.01 with few examples; 0.1 for soft)",
      numberOf,
    )
    .option("--batch-size <count>", "examples per step (default: 16, fewer if they are long)", numberOf)
    .option(
      "--max-tokens <count>",
      "most tokens of one example, without the prompt before it (default: 1024); longer ones are refused",
      numberOf,
    )
    .addOption(metricOption())
    .option("--seed <number>", "the same seed gives the same prompt (default: 0)", numberOf)
    .option("--template <text>", "a template in place of the active prompt's")
    .addOption(onOption())
    .option(
      "--ensemble <count>",
      "train this many prompts with consecutive seeds; they answer together",
      numberOf,
    )
    .addOption(
      new Option("--vote <way>", "how an ensemble comes to one answer (default: mean)").choices([
        "mean",
        "majority",
        "weighted",
      ]),
    )
    .addOption(detachOption())
    .addHelpText("after", examples)
    .action(async (task: string, data: string, flags: TrainFlags) => {
      const { teacher } = flags;
      const body = {
        ...settingsOf(flags),
        ...(teacher !== undefined && { teacher: await teacherOf(teacher) }),
        ...(await dataOf(flags, task, data)),
      };
      await startJob(flags, route`/tasks/${task}/train`, body);
    });

/** A version, or the text of a file. */
async function teacherOf(given: string): Promise<Teacher> {
  if (/^\d+$/.test(given)) return Number(given);
  try {
    return { text: await readText(given) };
  } catch (error) {
    throw new ForewordError(
      "validation",
      `--teacher: ${given} is no version, and can't be read (${(error as Error).message}).`,
    );
  }
}

function settingsOf(flags: TrainFlags): Asked<Omit<TrainRequest, "dataset" | "validation" | "examples">> {
  const { method, init, length, steps, metric, seed, template, on } = flags;
  const { learningRate, batchSize, maxTokens, ensemble, vote } = flags;
  if (vote && ensemble === undefined)
    throw new ForewordError("validation", "--vote: only an ensemble votes. Add --ensemble <count>.");
  return {
    method,
    init,
    length,
    steps,
    metric,
    seed,
    template,
    on,
    learning_rate: learningRate,
    batch_size: batchSize,
    max_tokens: maxTokens,
    ensemble: ensemble !== undefined && vote ? { members: ensemble, vote } : ensemble,
    activate: activationOf(flags),
  };
}

import { Command, Option } from "commander";
import type { EvaluateRequest } from "../contract/evaluate.ts";
import type { Contender } from "../contract/task.ts";
import { type Asked, detachOption, type JobFlags } from "./job-flags.ts";
import { route, type ServerFlags, serverOptions } from "./request.ts";
import { sent, takesExamples, type UploadOptions } from "./upload.ts";
import { contendersOf, numberOf } from "./values.ts";
import { startJob } from "./watch.ts";

interface EvaluateFlags extends ServerFlags, JobFlags, Pick<UploadOptions, "format"> {
  dataset?: boolean;
  prompts?: Contender[];
  calibrate?: boolean;
  store?: boolean;
  maxTokens?: number;
  differing?: number;
}

const examples = `
Examples:
  foreword evaluate sentiment dev.jsonl
  foreword evaluate sentiment dev.jsonl --prompts active,1,2,2+3:mean
  foreword evaluate sentiment reviews --dataset --store`;

export const evaluate = (): Command =>
  takesExamples(
    serverOptions(new Command("evaluate")).description(
      "score prompts on examples whose answers are known, all on the same ones",
    ),
  )
    .option(
      "--prompts <list>",
      "versions, ensembles and what is active, such as active,1,2+3:majority (default: active)",
      contendersOf,
    )
    .addOption(
      new Option(
        "--calibrate",
        "fit a temperature to each prompt, so that its probabilities mean what they say",
      ).conflicts("store"),
    )
    .option("--store", "fit a temperature to what is active, and keep it where it helps")
    .option("--max-tokens <count>", "most tokens of a generated text (default: 128)", numberOf)
    .option(
      "--differing <count>",
      "most examples to list that prompts answer differently, or the one prompt wrong (default: 20)",
      numberOf,
    )
    .addOption(detachOption())
    .addHelpText("after", examples)
    .action(async (task: string, data: string, flags: EvaluateFlags) => {
      const { prompts, calibrate, store, maxTokens, differing } = flags;
      const body: Asked<EvaluateRequest> = {
        dataset: flags.dataset ? data : await sent(flags, data, { task }),
        prompts,
        calibrate: store ? "store" : calibrate,
        max_tokens: maxTokens,
        differing,
      };
      await startJob(flags, route`/tasks/${task}/evaluate`, body);
    });

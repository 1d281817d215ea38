import { Command, Option } from "commander";
import type { DonorsRequest } from "../contract/transfer.ts";
import { type Asked, detachOption, type JobFlags } from "./job-flags.ts";
import { route, type ServerFlags, serverOptions } from "./request.ts";
import { sent, takesExamples, type UploadOptions } from "./upload.ts";
import { numberOf, refsOf } from "./values.ts";
import { startJob } from "./watch.ts";

interface DonorsFlags extends ServerFlags, JobFlags, Pick<UploadOptions, "format"> {
  dataset?: boolean;
  method?: "prefix" | "soft";
  candidates?: NonNullable<DonorsRequest["candidates"]>;
  template?: string;
  seed?: number;
}

const examples = `
Examples:
  foreword donors reviews reviews.jsonl
  foreword donors reviews reviews.jsonl --candidates sentiment/3,spam/3
  foreword train reviews reviews.jsonl --init donor     # ranks them, and starts from the best`;

export const donors = (): Command =>
  takesExamples(
    serverOptions(new Command("donors")).description(
      "find which other task's prompt a task's training should start from",
    ),
  )
    .addOption(
      new Option("--method <method>", "what is to be trained (default: prefix)").choices(["prefix", "soft"]),
    )
    .option(
      "--candidates <list>",
      "versions, such as sentiment/3,spam/2 (default: one of every other task)",
      refsOf,
    )
    .option("--template <text>", "a template in place of the active prompt's")
    .option("--seed <number>", "the same seed gives the same table (default: 0)", numberOf)
    .addOption(detachOption())
    .addHelpText("after", examples)
    .action(async (task: string, data: string, flags: DonorsFlags) => {
      const { method, candidates, template, seed } = flags;
      const body: Asked<DonorsRequest> = {
        dataset: flags.dataset ? data : await sent(flags, data, { task }),
        method,
        candidates,
        template,
        seed,
      };
      await startJob(flags, route`/tasks/${task}/donors`, body);
    });

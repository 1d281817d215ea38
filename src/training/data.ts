/** The data of a run: parsed, split, without leaks, and enough of it. */
import type { Example } from "../contract/dataset.ts";
import { ForewordError } from "../errors.ts";
import { parseExamples } from "./examples.ts";
import type { TrainJob } from "./job.ts";
import { type Split, splitExamples, withoutLeaks } from "./split.ts";

export interface RunData extends Split {
  /** Where an example stands in its list, from 1. */
  lineOf(example: Example): number;
}

/** Throws `bad_dataset` where there is nothing to tell apart, or nothing to validate with. */
export function dataOf(job: TrainJob, log: (text: string) => void): RunData {
  const all = parseExamples(job.examples);
  const own = typeof job.validation === "number" ? null : parseExamples(job.validation);
  const split = own
    ? { train: all, validation: own }
    : splitExamples(all, job.validation as number, job.request.seed ?? 0);
  const { validation, leaks } = withoutLeaks(split);
  if (leaks > 0)
    log(`${leaks} validation examples are among the training examples too; they are left out of validation`);
  if (validation.length === 0) {
    throw new ForewordError(
      "bad_dataset",
      `No example is left to validate with (${all.length} in all). Send more, or validation examples of their own.`,
    );
  }
  const labels = new Set(split.train.flatMap(example => ("label" in example ? [example.label] : [])));
  if (job.task.type === "classification" && labels.size < 2) {
    throw new ForewordError(
      "bad_dataset",
      `All training examples have the label ${JSON.stringify([...labels][0])}; nothing could be told apart. Send examples of two labels or more.`,
    );
  }
  const lines = new Map(
    [all, own ?? []].flatMap(list => list.map((example, i) => [example, i + 1] as const)),
  );
  return { train: split.train, validation, lineOf: example => lines.get(example)! };
}

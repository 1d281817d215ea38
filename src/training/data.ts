/** The data of a run: parsed, split, without leaks, and enough of it. */
import type { Example } from "../contract/dataset.ts";
import { ForewordError } from "../errors.ts";
import { parseExamples, repetitions } from "./examples.ts";
import type { TrainJob } from "./job.ts";
import { type Split, splitExamples, withoutLeaks } from "./split.ts";

/** Line numbers that a sentence lists. */
const LISTED = 5;

export interface RunData extends Split {
  /** Where an example stands in its list, from 1. */
  lineOf(example: Example): number;
  /** What the validation examples are called in a message: they may have a list of their own. */
  validationField: "examples" | "validation";
}

/** Throws `bad_dataset` where there is nothing to tell apart, or nothing to validate with. */
export function dataOf(
  job: Pick<TrainJob, "task" | "examples" | "validation" | "splitSeed"> & Partial<Pick<TrainJob, "teacher">>,
  log: (text: string) => void,
): RunData {
  const all = parseExamples(job.examples);
  const own = typeof job.validation === "number" ? null : parseExamples(job.validation);
  const lines = new Map(
    [all, own].flatMap(read => (read ? read.examples.map((each, i) => [each, read.lines[i]!] as const) : [])),
  );
  const lineOf = (example: Example) => lines.get(example)!;
  const { duplicates, conflicts } = repetitions(all);
  if (duplicates.length > 0) log(`examples: ${counted(duplicates)} repeat an earlier one`);
  if (conflicts.length > 0)
    log(`examples: ${counted(conflicts)} have an input that came with another label before`);
  const split = own
    ? { train: all.examples, validation: own.examples }
    : splitExamples(all.examples, job.validation as number, job.splitSeed);
  const { validation, leaks } = withoutLeaks(split);
  if (leaks.length > 0)
    log(
      `validation: ${counted(leaks.map(lineOf))} are among the training examples too; they are left out of validation`,
    );
  if (validation.length === 0) {
    throw new ForewordError(
      "bad_dataset",
      `No example is left to validate with (${all.examples.length} in all). Send more, or validation examples of their own.`,
    );
  }
  if (job.task.type === "classification" && !job.teacher)
    checkClasses(split.train.map(each => (each as { label: string }).label));
  return { train: split.train, validation, lineOf, validationField: own ? "validation" : "examples" };
}

/** Throws `bad_dataset` where all labels are one. */
export function checkClasses(labels: Iterable<string>): void {
  const distinct = new Set(labels);
  if (distinct.size >= 2) return;
  throw new ForewordError(
    "bad_dataset",
    `All training examples have the label ${JSON.stringify([...distinct][0])}; nothing could be told apart. Send examples of two labels or more.`,
    { field: "examples" },
  );
}

function counted(lines: readonly number[]): string {
  const rest = lines.length - LISTED;
  const listed = `${lines.slice(0, LISTED).join(", ")}${rest > 0 ? ` and ${rest} more` : ""}`;
  return `${lines.length} of them (${lines.length === 1 ? "line" : "lines"} ${listed})`;
}

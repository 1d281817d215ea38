/** The data of a run: parsed, split, without leaks, and enough of it. */
import type { Example } from "../contract/dataset.ts";
import { ForewordError } from "../errors.ts";
import { fillFields } from "../prompt/fields.ts";
import { compileTemplate } from "../prompt/template.ts";
import { labelsOf, noLabel } from "./check.ts";
import {
  answerOf,
  distinct,
  type LineProblem,
  parseExamples,
  type ReadExamples,
  Repetitions,
  refused,
} from "./examples.ts";
import type { TrainJob } from "./job.ts";
import { type Split, sample, splitExamples, withoutLeaks } from "./split.ts";

/** Line numbers, or labels, that a sentence lists. */
const LISTED = 5;
/** More tell scores no better than to half a point, and each is answered by two prompts. */
const VALIDATED = 4000;

export interface Places {
  /** Where an example stands in its list, from 1. */
  lineOf(example: Example): number;
  /** What it is called in a message: its text is nobody's to read there. */
  nameOf(example: Example): string;
}

export interface RunData extends Split, Places {
  /** What the validation examples are called in a message: they may have a list of their own. */
  validationField: "examples" | "validation";
}

/**
 * Throws `bad_dataset` where inputs don't fill the fields of the template, there is nothing to tell apart, or nothing to
 * validate with.
 */
export function dataOf(
  job: Pick<TrainJob, "task" | "examples" | "validation" | "splitSeed"> &
    Partial<Pick<TrainJob, "teacher" | "template">>,
  log: (text: string) => void,
): RunData {
  const all = filling(job.examples, "examples", job.template);
  const own = typeof job.validation === "number" ? null : filling(job.validation, "validation", job.template);
  if (!job.teacher) {
    checkLabels(all, job.task, "examples");
    if (own) checkLabels(own, job.task, "validation");
  }
  const { lineOf, nameOf } = placesOf({ examples: all, ...(own && { validation: own }) });
  const repeated = new Repetitions();
  for (const [index, example] of all.examples.entries()) repeated.add(example, all.lines[index]!);
  const { duplicates, conflicts } = repeated;
  if (duplicates.length > 0) log(`examples: ${counted(duplicates)} repeat an earlier one`);
  if (conflicts.length > 0)
    log(`examples: ${counted(conflicts)} have an input that came with another label before`);
  const split = own
    ? { train: all.examples, validation: own.examples }
    : splitExamples(all.examples, job.validation as number, job.splitSeed);
  const { validation: unseen, leaks } = withoutLeaks(split);
  if (leaks.length > 0)
    log(
      `validation: ${counted(leaks.map(lineOf))} are among the training examples too; they are left out of validation`,
    );
  const usable = distinct(unseen);
  const once = new Set(usable);
  const again = unseen.filter(example => !once.has(example));
  if (again.length > 0)
    log(`validation: ${counted(again.map(lineOf))} repeat an earlier one; an example counts once`);
  const validation = sample(usable, VALIDATED, job.splitSeed);
  if (validation.length < usable.length)
    log(`validation: of ${usable.length} examples ${validation.length} are judged, by label and chance`);
  if (validation.length === 0) {
    throw new ForewordError(
      "bad_dataset",
      `No example is left to validate with (${all.examples.length} in all). Send more, or validation examples of their own.`,
    );
  }
  if (job.task.type === "classification" && !job.teacher) {
    const labels = new Set(split.train.map(each => (each as { label: string }).label));
    checkClasses(labels);
    const without = labelsOf(job.task).filter(label => !labels.has(label));
    if (without.length > 0) log(`examples: none to train on has the ${named(without)}`);
    const looked = new Set(validation.map(each => (each as { label: string }).label));
    const blind = [...labels].filter(label => !looked.has(label)).sort();
    if (blind.length > 0) log(`validation: none has the ${named(blind)}`);
  }
  return { train: split.train, validation, lineOf, nameOf, validationField: own ? "validation" : "examples" };
}

/** A task's labels may have changed since the job was sent. Throws `bad_dataset`, naming the lines. */
export function checkLabels(
  { examples, lines }: ReadExamples,
  task: Pick<TrainJob["task"], "id" | "labels">,
  field: string,
): void {
  if (task.labels === null) return;
  const known = new Set(labelsOf(task));
  const problems = examples.flatMap((example, index): LineProblem[] => {
    const label = answerOf(example);
    if (known.has(label)) return [];
    return [{ line: lines[index]!, detail: noLabel(task, label) }];
  });
  if (problems.length > 0) throw refused(problems, field);
}

/** A job's examples alone. Throws `bad_dataset` where inputs don't fill the fields of its template, or labels aren't the task's. */
export function examplesOf(
  job: Pick<TrainJob, "examples" | "template" | "task">,
): Pick<ReadExamples, "examples"> & Places {
  const read = filling(job.examples, "examples", job.template);
  checkLabels(read, job.task, "examples");
  return { ...placesOf({ examples: read }), examples: read.examples };
}

function filling(bytes: Uint8Array, field: string, template: string | undefined): ReadExamples {
  const read = parseExamples(bytes);
  if (template === undefined) return read;
  const compiled = compileTemplate(template);
  const problems: LineProblem[] = [];
  for (const [index, { input }] of read.examples.entries()) {
    try {
      fillFields(compiled, input);
    } catch (error) {
      problems.push({ line: read.lines[index]!, detail: (error as Error).message });
    }
  }
  if (problems.length > 0) throw refused(problems, field);
  return read;
}

/** Where the examples of several lists stand; each list goes by the field that it came in. */
function placesOf(lists: Readonly<Record<string, ReadExamples>>): Places {
  const places = new Map(
    Object.entries(lists).flatMap(([field, { examples, lines }]) =>
      examples.map((example, index) => [example, { field, line: lines[index]! }] as const),
    ),
  );
  return {
    lineOf: example => places.get(example)!.line,
    nameOf: example => {
      const { field, line } = places.get(example)!;
      return `${field}: line ${line}`;
    },
  };
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

export const counted = (lines: readonly number[]): string =>
  `${lines.length} of them (${lines.length === 1 ? "line" : "lines"} ${listed(lines)})`;

const named = (labels: readonly string[]): string =>
  `${labels.length === 1 ? "label" : "labels"} ${listed(labels.map(label => JSON.stringify(label)))}`;

function listed(items: readonly (string | number)[]): string {
  const rest = items.length - LISTED;
  return `${items.slice(0, LISTED).join(", ")}${rest > 0 ? ` and ${rest} more` : ""}`;
}

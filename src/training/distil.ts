/**
 * Context distillation (Snell et al. 2022; Cartridges, Eyuboglu et al. 2025): a short prefix learns to answer as the
 * same backbone does behind a long prompt. Inputs need no labels: for a classification the teacher's distribution over
 * the labels is the target, so that the loss is their KL divergence and the teacher's entropy, which no prefix changes;
 * for generation it is the teacher's greedy text (Kim & Rush 2016).
 */
import type { Example } from "../contract/dataset.ts";
import type { Distillation } from "../contract/train.ts";
import { ForewordError } from "../errors.ts";
import { branches, endBranch, type TrieNode } from "../prompt/trie.ts";
import type { Scores } from "../prompt/votes.ts";
import type { Bench } from "./begin.ts";
import { labelsOf } from "./check.ts";
import type { RunData } from "./data.ts";
import { label } from "./evaluation/judge.ts";
import type { Judging } from "./evaluation/judging.ts";
import { accuracy } from "./evaluation/metrics.ts";
import { type TextCase, write } from "./evaluation/write.ts";
import type { TaskPrompt, TrainHooks, TrainJob, TrainOutcome } from "./job.ts";
import { counting } from "./progress.ts";
import { type ClassificationContext, rowsOn, type TrainingRow } from "./rows.ts";
import type { Split } from "./split.ts";

/** Labels whose ways through the trie are taught, and the probability that they have together at most. */
const WAYS = { most: 4, mass: 0.98 };
/** Inputs that a teacher answers before what it said may be kept, labels' scores as numbers. */
const AT_ONCE = 256;
/** The longest text that a teacher writes. */
const MAX_TOKENS = 256;

export interface Taught extends Split {
  /** What the teacher said of an example, label by label in the task's order; null for texts. */
  distributions: ReadonlyMap<Example, Float64Array> | null;
  /** The example that each came from. */
  origins: ReadonlyMap<Example, Example>;
}

/** What the teacher said of one input. A checkpoint holds them: they are asked for once, whatever stops the run. */
export interface TeacherAnswer {
  /** A label or a text. */
  given: string;
  /** P(label) in the order of the task's labels, whose names would be most of a checkpoint; null for texts. */
  probabilities: Float64Array | null;
  /** Whether a text came to its end. */
  ended: boolean;
}

/**
 * The teacher's answers to `train`, then `validation`, with those that it gave `before`. `keep` is called with all so far
 * behind every `AT_ONCE` inputs: a run that goes on from there asks as one that was never stopped.
 */
export async function askTeacher(
  bench: Bench,
  { task }: Pick<TrainJob, "task">,
  teacher: NonNullable<TrainJob["teacher"]>,
  { train, validation, nameOf }: Pick<RunData, "train" | "validation" | "nameOf">,
  before: readonly TeacherAnswer[],
  hooks: Pick<TrainHooks, "log" | "progress">,
  keep: (answers: TeacherAnswer[]) => Promise<void>,
): Promise<TeacherAnswer[]> {
  const all = [...train, ...validation];
  const rest = all.length - before.length;
  hooks.log(`the teacher answers ${before.length > 0 ? `the last ${rest} of ` : ""}${all.length} inputs`);
  const answers = [...before];
  const judging = {
    ...bench,
    task,
    prompts: [teacher],
    active: teacher.fitted ?? {},
    tell: counting(hooks, rest),
  };
  const digest = bench.shelf.put(bench.core, teacher);
  try {
    while (answers.length < all.length) {
      const some = all.slice(answers.length, answers.length + AT_ONCE);
      bench.core.forgetInputs(digest);
      answers.push(...(await answersTo({ ...judging, nameOf: index => nameOf(some[index]!) }, some)));
      await keep(answers);
    }
  } finally {
    bench.shelf.drop(bench.core, digest);
  }
  return answers;
}

async function answersTo(judging: Judging, examples: readonly Example[]): Promise<TeacherAnswer[]> {
  const { task } = judging;
  if (task.labels === null) {
    const cases: TextCase[] = examples.map(({ input }) => ({ input, wanted: [] }));
    const written = await write(judging, cases, { maxTokens: MAX_TOKENS });
    return written.map(({ given, ended }) => ({ given, probabilities: null, ended }));
  }
  const labels = labelsOf(task);
  const labelled = await label(judging, examples, { every: true });
  return labelled.map(({ given, scores }) => ({
    given,
    probabilities: Float64Array.from(labels, name => scores.get(name)!),
    ended: true,
  }));
}

/** The examples with the teacher's answers in place of their own. Throws `bad_dataset` where its texts leave none. */
export function taught(
  { train, validation }: Split,
  answers: readonly TeacherAnswer[],
  log: (text: string) => void,
): Taught {
  const all = [...train, ...validation];
  const answered = all.map(({ input }, i): Example => {
    const { given, probabilities } = answers[i]!;
    return probabilities ? { input, label: given } : { input, output: given };
  });
  // The end of a text is learnt too: one that was cut off has none.
  const usable = (_: unknown, i: number) => answers[i]!.ended && answers[i]!.given.trim() !== "";
  const kept = new Set(answered.filter(usable));
  const left = answered.length - kept.size;
  if (left > 0)
    log(`${left} of the teacher's texts are left out: empty, or not at their end after ${MAX_TOKENS} tokens`);
  const learnt = answered.slice(0, train.length).filter(each => kept.has(each));
  const validating = answered.slice(train.length).filter(each => kept.has(each));
  if (learnt.length === 0 || validating.length === 0)
    throw new ForewordError(
      "bad_dataset",
      `The teacher's texts leave nothing to ${learnt.length === 0 ? "train on" : "validate with"}. Send more inputs, or a teacher that writes shorter texts.`,
      { field: "teacher" },
    );
  const labelled = answers[0]!.probabilities !== null;
  return {
    train: learnt,
    validation: validating,
    distributions: labelled ? new Map(answered.map((each, i) => [each, answers[i]!.probabilities!])) : null,
    origins: new Map(answered.map((each, i) => [each, all[i]!])),
  };
}

/** What the teacher said, by the names of the task's labels. */
export const namedScores = (task: Pick<TrainJob["task"], "labels">, probabilities: Float64Array): Scores =>
  new Map(labelsOf(task).map((name, index) => [name, probabilities[index]!]));

/**
 * Rows on the ways of the teacher's likeliest verbalizers, those of a label being as likely as one another; each decision
 * stands in the first row that comes to it, weighted by how probable the teacher finds it to be reached.
 */
export function distilledRows(
  example: Example,
  scores: Scores,
  context: ClassificationContext,
): TrainingRow[] {
  const ways = [...scores]
    .flatMap(([name, probability]) => {
      const sequences = context.sequences.get(name)!;
      return sequences.map(tokens => ({ tokens, share: probability / sequences.length }));
    })
    .sort((a, b) => b.share - a.share);
  const mass = (path: readonly number[], ends: boolean) =>
    ways.reduce(
      (sum, { tokens, share }) =>
        path.every((token, i) => token === tokens[i]) && (!ends || tokens.length === path.length)
          ? sum + share
          : sum,
      0,
    );
  const weightsOf = (node: TrieNode) =>
    branches(node).map(token =>
      token === endBranch ? mass(node.path, true) : mass([...node.path, token], false),
    );
  let covered = 0;
  const likeliest = ways.filter(({ share }) => {
    covered += share;
    return covered - share < WAYS.mass;
  });
  return rowsOn(
    likeliest.map(({ tokens }) => tokens),
    example,
    weightsOf,
    context,
    WAYS.most,
  );
}

/** Examples and rounds that speeds are told by. */
const TIMED = { examples: 64, rounds: 3 };
const TIMED_TOKENS = 16;

/** How often both agree, and what was saved: the teacher and the prefix answer the same inputs in turn, medians of three rounds. */
export async function distillationOf(
  bench: Bench,
  { task, verbalizers }: Pick<TrainJob, "task" | "verbalizers">,
  teacher: TaskPrompt,
  { file, template }: Pick<TrainOutcome, "file" | "template">,
  examples: readonly Example[],
): Promise<Distillation> {
  const student: TaskPrompt = { template, parameters: file, ...(verbalizers && { verbalizers }) };
  const some = examples.slice(0, TIMED.examples);
  const kept = [teacher, student].map(prompt => bench.shelf.put(bench.core, prompt));
  const answer = async (prompt: TaskPrompt) => {
    const judging = { ...bench, task, prompts: [prompt], active: {} };
    const started = performance.now();
    if (task.labels !== null) await label(judging, some);
    else
      await write(
        judging,
        some.map(({ input }) => ({ input, wanted: [] })),
        { maxTokens: TIMED_TOKENS },
      );
    return performance.now() - started;
  };
  const ratios: number[] = [];
  for (let round = 0; round <= TIMED.rounds; round++) {
    const ratio = (await answer(teacher)) / (await answer(student));
    // The first round compiles the prefixes.
    if (round > 0) ratios.push(ratio);
  }
  for (const digest of kept) bench.shelf.drop(bench.core, digest);
  const agreement =
    task.labels === null
      ? null
      : accuracy(await label({ ...bench, task, prompts: [student], active: {} }, examples));
  const lengthOf = (prompt: TaskPrompt) => bench.core.inspect(prompt).length;
  const [before, after] = [lengthOf(teacher), lengthOf(student)];
  return {
    agreement,
    teacher_length: before,
    length: after,
    tokens_saved: before - after,
    speed: ratios.sort((a, b) => a - b)[Math.floor(ratios.length / 2)]!,
  };
}

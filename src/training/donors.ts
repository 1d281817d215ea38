/**
 * Where a task's training should start: at another task's prompt (SPoT, Vu et al. 2022), or at worked examples of its
 * own. Every start is put before the task's template as training would begin with it, and answers examples: how well it
 * tells them apart, label biases and a temperature fitted, is what it is ranked by (docs/decisions.md says what that is
 * worth).
 */
import type { Example } from "../contract/dataset.ts";
import type { Init } from "../contract/train.ts";
import type { DonorsReport, RankedStart } from "../contract/transfer.ts";
import type { PromptContent } from "../engine/engine.ts";
import { ForewordError } from "../errors.ts";
import { basesOf } from "../prompt/stack.ts";
import { baseOf } from "./based.ts";
import { type Bench, begin } from "./begin.ts";
import { labelsOf } from "./check.ts";
import { dataOf, type Places } from "./data.ts";
import { judge, type Labelled, label } from "./evaluation/judge.ts";
import { type Judged, scores } from "./evaluation/metrics.ts";
import type { TaskPrompt, TrainHooks, TrainJob } from "./job.ts";
import { planOf, withVerbalizers } from "./plan.ts";
import { counting } from "./progress.ts";
import { recalibrated } from "./search/biases.ts";
import { race } from "./search/race.ts";
import { sample, withoutLeaks } from "./split.ts";
import { chosenExamples, promptFileOf } from "./start.ts";

/** Examples that the best starts answer. */
const EXAMPLES = 128;
/**
 * Answers for each start, on average, and in all at least: the better ones are asked more. Of 65 starts, which race in
 * six rounds, all give 32 in the first: fewer fit no biases.
 */
const BUDGET = { each: 192, least: 2000 };
const FINALISTS = 4;
/** Labels beyond which no biases are fitted. */
const ALL_SCORES = 32;

export type DonorsJob = Pick<TrainJob, "task" | "request" | "template" | "verbalizers" | "base" | "donors">;

type Hooks = Pick<TrainHooks, "log" | "progress">;

interface Start {
  init: Init;
  kind: RankedStart["kind"];
  prompt: TaskPrompt;
}

/** Throws `validation`; a donor that can't be a start is left out, with the reason. */
export async function rankStarts(
  bench: Bench,
  job: DonorsJob,
  { examples, nameOf: exampleName }: { examples: readonly Example[] } & Pick<Places, "nameOf">,
  hooks: Hooks,
): Promise<DonorsReport> {
  const { task, request } = job;
  const seed = request.seed ?? 0;
  const left_out: DonorsReport["left_out"] = [];
  const leave = (init: Init, error: unknown) => {
    if (!(error instanceof ForewordError)) throw error;
    hooks.log(`${nameOf(init)} is left out: ${error.message}`);
    if (isPrompt(init)) left_out.push({ ...init.prompt, reason: error.message });
  };
  const starts = await startsOf(bench, job, examples, leave);
  // What the own start shows, it would answer too well, wherever else that stands.
  const shown = chosenExamples(examples, seed);
  const others = withoutLeaks({ train: shown, validation: [...examples] }).validation;
  const asked = sample(others.length > 0 ? others : examples, EXAMPLES, seed);
  hooks.log(`trying ${starts.length} starts on up to ${asked.length} examples`);

  const labels = labelsOf(task);
  const every = task.type === "classification" && labels.length <= ALL_SCORES;
  const settled = (results: readonly Judged[]) =>
    every ? recalibrated(results as Labelled[], labels) : results;
  const budget = Math.max(BUDGET.least, BUDGET.each * starts.length);
  const tell = counting(hooks, Math.min(budget, starts.length * asked.length));
  const racers = await race<Start, Judged>(starts, {
    examples: asked.length,
    budget,
    finalists: FINALISTS,
    answer: ({ prompt }, from, to) => {
      const part = asked.slice(from, to);
      const named = (index: number) => exampleName(part[index]!);
      const judging = { ...bench, task, prompts: [prompt], active: {}, tell, nameOf: named };
      return every ? label(judging, part, { every }) : judge(judging, part);
    },
    score: results => scores.loss(settled(results)),
    onFailure: ({ init }, error) => leave(init, error),
  });
  const table = racers.map(({ item: { init, kind }, results }, index): RankedStart => {
    const judged = settled(results);
    return {
      rank: index + 1,
      init,
      kind,
      loss: -scores.loss(judged),
      accuracy: task.type === "classification" ? scores.accuracy(judged) : null,
      examples: results.length,
    };
  });
  const { method = "prefix", template } = request;
  return {
    method,
    ...(template !== undefined && { template }),
    best: { init: table[0]!.init },
    table,
    left_out,
  };
}

/** The task's own start, and every donor that can be one. */
async function startsOf(
  bench: Bench,
  job: DonorsJob,
  examples: readonly Example[],
  leave: (init: Init, error: unknown) => void,
): Promise<Start[]> {
  const starts = [await startOf(bench, job, examples, "examples", null)];
  for (const { task, version, kind, content } of job.donors ?? []) {
    const init = { prompt: { task, version } };
    try {
      starts.push({ ...(await startOf(bench, job, examples, init, content)), kind });
    } catch (error) {
      leave(init, error);
    }
  }
  return starts;
}

/** The best start for a training run, by the examples that it trains on; what was found is told in a line. */
export async function bestStart(bench: Bench, job: TrainJob, hooks: Hooks): Promise<Init> {
  const { train, nameOf: exampleName } = dataOf(job, () => {});
  const { table, best } = await rankStarts(bench, job, { examples: train, nameOf: exampleName }, hooks);
  const shown = table.slice(0, 5).map(({ init, loss }) => `${nameOf(init)} ${loss.toFixed(4)}`);
  hooks.log(`loss before training by start: ${shown.join(", ")}`);
  return best.init;
}

/** The content of the donor that a start is; null for a start that is none. Throws `prompt_not_found` where it is gone. */
export function donated({ donors = [] }: Pick<TrainJob, "donors">, start: Init): PromptContent | null {
  if (!isPrompt(start)) return null;
  const { task, version } = start.prompt;
  const donor = donors.find(each => each.task === task && each.version === version);
  if (donor) return donor.content;
  throw new ForewordError(
    "prompt_not_found",
    `The donor of this run, version ${version} of ${task}, was deleted. Train again.`,
    { task, version },
  );
}

/** The prompt that training would begin with. */
async function startOf(
  bench: Bench,
  job: DonorsJob,
  examples: readonly Example[],
  init: Init,
  initial: PromptContent | null,
): Promise<Start> {
  const { verbalizers, base } = job;
  const request = { ...job.request, init };
  const { tokenizer, source } = bench;
  const asked = { ...job, request, initial, task: withVerbalizers(job) };
  const plan = planOf(asked, examples, tokenizer, source.config.vocabSize);
  const below = await baseOf(bench, base);
  const parameters = await begin(bench, plan, initial, request.seed ?? 0, below);
  const { method } = plan;
  const template = plan.template.source;
  const backbone = bench.compiled.fingerprint;
  const [bases, start] = [basesOf({ parameters: base }), below?.length ?? 0];
  const trained = { method, template, backbone, recipe: null, parameters, verbalizers, bases, start };
  const file = promptFileOf(trained, bench.source.config);
  const prompt = { template, parameters: file, ...(verbalizers && { verbalizers }) };
  return { init, kind: null, prompt };
}

const isPrompt = (init: Init): init is Extract<Init, { prompt: object }> =>
  typeof init === "object" && "prompt" in init;

const nameOf = (init: Init): string =>
  isPrompt(init) ? `${init.prompt.task}/${init.prompt.version}` : String(init);

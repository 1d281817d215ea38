/** Foreword's runs, through the HTTP interface alone: data sets sent, trained with defaults, test answered once. */
import type { InferRequest } from "../../src/contract/infer.ts";
import type { Job } from "../../src/contract/job.ts";
import type { PromptRecord } from "../../src/contract/prompt.ts";
import type { SearchReport } from "../../src/contract/search.ts";
import type { Activation, Active, Task } from "../../src/contract/task.ts";
import type { TrainRequest, TrainSettingsRequest } from "../../src/contract/train.ts";
import { randomFrom } from "../../src/engine/sampler.ts";
import { plainPattern } from "../../src/server/tasks.ts";
import { shuffled } from "../../src/training/batches.ts";
import { meanBootstrap } from "../../src/training/evaluation/significance.ts";
import { answerOf } from "../../src/training/examples.ts";
import { ofEachLabel, showing } from "../../src/training/search/candidates.ts";
import { load, type Product } from "../harness/product.ts";
import type { Cell, OwnMethod } from "./cells.ts";
import { asNdjson, type DataSet, MAX_TOKENS, type TestCase } from "./data.ts";
import { scoreOf } from "./score.ts";

/** Inputs of a request, fewer of long ones (fetch waits five minutes for a reply), and requests under way. */
const INPUTS = 16;
const CHARACTERS = 20_000;
const AT_ONCE = 2;
/** Worked examples of a prompt that shows some. */
const SHOTS = 20;
/** Examples that label biases are fitted with; the race takes 240 answers, about what a search's best has by default. */
const FITTED = { examples: 400, validation: 0.2, budget: 400 };
/** Of an ensemble. */
const MEMBERS = 5;
const MEMBER_STEPS = 200;
const TIMEOUT_MS = 3_600_000;
const POLL_MS = 500;

export interface Answered {
  given: string[];
  trainingSeconds: number;
  settings: object;
}

interface OwnRun {
  product: Product;
  task: string;
  /** What answers when the run begins: the hard prompt that the task began with. */
  active: Active;
  data: DataSet;
  seed: number;
  /** Empty but for trials. */
  settings: TrainSettingsRequest;
}

export async function runOwn(
  product: Product,
  data: DataSet,
  { method, seed }: Cell & { method: OwnMethod },
  settings: TrainSettingsRequest,
): Promise<Answered> {
  const task = await taskOf(product, data);
  const active = await useHard(product, task);
  return ways[method]({ product, task, active, data, seed, settings });
}

const ways: { readonly [Method in OwnMethod]: (run: OwnRun) => Promise<Answered> } = {
  plain: run => hardPrompt(run, plainOf(run)),
  hard: async ({ product, task, active, data }) => {
    const given = await answer(product, task, data.test, data.metric);
    return { given, trainingSeconds: 0, settings: { active } };
  },
  search: searched,
  shots: async run => hardPrompt(run, await shotsOf(run)),
  distill: distilled,
  prefix: run => trainedBy(run, "prefix"),
  soft: run => trainedBy(run, "soft"),
  ensemble: ensembled,
};

const plainOf = ({ data: { metric } }: OwnRun) =>
  plainPattern[metric === "bleu" ? "generation" : "classification"];

async function trainedBy(run: OwnRun, method: "prefix" | "soft"): Promise<Answered> {
  const { product, task, data, seed, settings } = run;
  const trained = await trainOn(product, task, data, { method, seed, ...settings });
  return { ...trained, given: await answer(product, task, data.test, data.metric, trained.version) };
}

async function hardPrompt({ product, task, data }: OwnRun, template: string): Promise<Answered> {
  const { version } = await product.post<PromptRecord>(`/tasks/${task}/prompts`, { template });
  const given = await answer(product, task, data.test, data.metric, version);
  return { given, trainingSeconds: 0, settings: { template } };
}

/** Twenty worked examples: labels in turn, or texts as turns of a chat, which the backbone ends; other texts go on. */
async function shotsOf({ product, task, data: { train }, seed }: OwnRun): Promise<string> {
  const mixed = shuffled(train.length, randomFrom(seed)).map(index => train[index]!);
  // Nothing that a template would read as its own: fields, or special tokens.
  const usable = mixed.filter(example => !JSON.stringify(example).match(/\{\{|<\|/));
  if (!("label" in usable[0]!)) {
    const turns = usable
      .slice(0, SHOTS)
      .map(each => `${turn(String(each.input), answerOf(each))}<|im_end|>\n`);
    return `${turns.join("")}${turn("{{ input }}", "")}`;
  }
  const chosen = ofEachLabel(usable, SHOTS);
  return showing(chosen.slice(0, SHOTS), await product.get<Task>(`/tasks/${task}`), ["input"]);
}

/** As the backbone's chat template spells it. */
const turn = (user: string, assistant: string): string =>
  `<|im_start|>user\n${user}<|im_end|>\n<|im_start|>assistant\n${assistant}`;

/** From the plain pattern, as a task of one's own begins: the bundled prompt, which was chosen by hand, is not raced. */
async function searched(run: OwnRun): Promise<Answered> {
  const { product, task, data, seed } = run;
  await keepBoth(product, data);
  await product.post(`/tasks/${task}/prompts?activate=true`, { template: plainOf(run) });
  const { metric } = data;
  const { id } = await product.post<Job>(`/tasks/${task}/search`, {
    dataset: `${data.name}-train`,
    validation: `${data.name}-dev`,
    seed,
    ...(metric !== "bleu" && { metric }),
  });
  const job = await ended(product, id);
  const { active, table, validation } = job.result as unknown as SearchReport & { validation: object };
  await product.put(`/tasks/${task}/active`, active);
  const given = await answer(product, task, data.test, metric);
  return { given, trainingSeconds: secondsOf(job), settings: { active, validation, table } };
}

/**
 * The teacher is `shots` of the same seed, active and with label biases. How often both agree is told of test inputs,
 * beside how often whoever always gives the teacher's commonest answer would.
 */
async function distilled(run: OwnRun): Promise<Answered> {
  const { product, task, data, seed, settings } = run;
  const template = await shotsOf(run);
  await product.post(`/tasks/${task}/prompts?activate=true`, { template });
  const bias = data.metric === "bleu" ? null : (await fitBiases(product, task, data, seed)).bias;
  await keepBoth(product, data);
  const { id } = await product.post<Job>(`/tasks/${task}/train`, {
    method: "distill",
    dataset: `${data.name}-train`,
    validation: `${data.name}-dev`,
    seed,
    ...settings,
  });
  const job = await ended(product, id);
  const version = job.result!.versions![0]!;
  const given = await answer(product, task, data.test, data.metric, version);
  const wanted = await answer(product, task, data.test, data.metric);
  const shareOf = (text: string) => wanted.filter(each => each === text).length / wanted.length;
  const { distillation } = job.result as { distillation?: object };
  return {
    given,
    trainingSeconds: secondsOf(job),
    settings: {
      template,
      ...(bias && { bias }),
      ...distillation,
      teacher_score: scoreOf(data, wanted).score,
      test_agreement: given.filter((each, index) => each === wanted[index]).length / given.length,
      constant_agreement: Math.max(...[...new Set(wanted)].map(shareOf)),
    },
  };
}

/** Lets what is active, a hard prompt, answer with the label biases that a search of it alone fits. */
export async function fitBiases(
  product: Product,
  task: string,
  { train, metric }: Pick<DataSet, "train" | "metric">,
  seed: number,
): Promise<Active> {
  const { examples, ...knobs } = FITTED;
  // The last ones of the order whose first ones a prompt may show.
  const mixed = shuffled(train.length, randomFrom(seed)).slice(-examples);
  const { id } = await product.post<Job>(`/tasks/${task}/search`, {
    examples: mixed.map(index => train[index]!),
    patterns: false,
    written: 0,
    verbalizers: false,
    ...knobs,
    metric,
    seed,
  });
  const { active } = (await ended(product, id)).result as unknown as SearchReport;
  await product.put(`/tasks/${task}/active`, active);
  return active!;
}

/** Five prefixes in the time that one takes by default, and what they gain over the mean of them, on the same test. */
async function ensembled({ product, task, data, seed, settings }: OwnRun): Promise<Answered> {
  await keepBoth(product, data);
  const { template } = await product.get<PromptRecord>(`/tasks/${task}/prompts/1`);
  const { id } = await product.post<Job>(`/tasks/${task}/train`, {
    template,
    dataset: `${data.name}-train`,
    validation: `${data.name}-dev`,
    // Members of one seed's ensemble are none of another's.
    seed: 10 * seed,
    ensemble: MEMBERS,
    steps: MEMBER_STEPS,
    ...settings,
  });
  const job = await ended(product, id);
  const versions = job.result!.versions!;
  const rightOf = (given: readonly string[]) =>
    given.map((each, index) => (each === data.test[index]!.answers[0] ? 1 : 0));
  const given = await answer(product, task, data.test, data.metric, { ensemble: versions });
  const members: number[][] = [];
  for (const version of versions)
    members.push(rightOf(await answer(product, task, data.test, data.metric, version)));
  const gains = rightOf(given).map(
    (right, index) => right - members.reduce((sum, each) => sum + each[index]!, 0) / members.length,
  );
  const mean = (values: readonly number[]) => values.reduce((sum, each) => sum + each, 0) / values.length;
  return {
    given,
    trainingSeconds: secondsOf(job),
    settings: {
      members: members.map(mean),
      gain: { value: mean(gains), ...meanBootstrap(gains) },
      steps: MEMBER_STEPS,
      ...(job.result as { ensemble: object }).ensemble,
    },
  };
}

const secondsOf = ({ ended_at, started_at }: Job): number =>
  (Date.parse(ended_at!) - Date.parse(started_at!)) / 1000;

/** A version of the task by the data set's train and dev, and everything that decided it. */
export async function trainOn(
  product: Product,
  task: string,
  data: DataSet,
  settings: TrainSettingsRequest & Pick<TrainRequest, "on">,
): Promise<Omit<Answered, "given"> & { version: number }> {
  await keepBoth(product, data);
  // From the words that the task began with: what was trained since decides nothing.
  const { template } = await product.get<PromptRecord>(`/tasks/${task}/prompts/1`);
  const { id } = await product.post<Job>(`/tasks/${task}/train`, {
    template,
    dataset: `${data.name}-train`,
    validation: `${data.name}-dev`,
    ...settings,
  });
  const job = await ended(product, id);
  const version = job.result!.versions![0]!;
  const { recipe, metrics, length } = await product.get<PromptRecord>(`/tasks/${task}/prompts/${version}`);
  const { curve, ...said } = metrics as { curve: unknown };
  const { template: words, job: _, ...decided } = recipe as { template: string; job: string };
  return {
    version,
    trainingSeconds: secondsOf(job),
    settings: { length, ...decided, validation: job.result!.validation, metrics: said },
  };
}

/** Makes the hard prompt that the task began with answer, as it did then; returns its active record. */
async function useHard(product: Product, task: string): Promise<Active> {
  const { items } = await product.get<{ items: Activation[] }>(`/tasks/${task}/history?limit=200`);
  const { active } = items.at(-1)!;
  await product.put(`/tasks/${task}/active`, active);
  return active!;
}

/** The bundled task, or one with the plain pattern and the data's labels. */
async function taskOf(product: Product, { name, task, train }: DataSet): Promise<string> {
  if (task !== null) return task;
  const { items } = await product.get<{ items: Task[] }>("/tasks?limit=200");
  if (items.some(({ id }) => id === name)) return name;
  const labels = [...new Set(train.flatMap(each => ("label" in each ? [each.label] : [])))];
  await product.post("/tasks", labels.length > 0 ? { id: name, labels } : { id: name, type: "generation" });
  return name;
}

async function keepBoth(product: Product, { name, train, dev }: DataSet): Promise<void> {
  await keep(product, `${name}-train`, train);
  await keep(product, `${name}-dev`, dev);
}

export const keep = (product: Product, id: string, examples: DataSet["train"]) =>
  product.post(`/datasets?id=${id}`, asNdjson(examples), "application/x-ndjson");

/** Tells the job's lines on the way. Throws where it fails. */
export async function ended(product: Product, id: string): Promise<Job> {
  for (let told = ""; ; ) {
    const job = await product.get<Job>(`/jobs/${id}`);
    const last = job.log.at(-1)?.text ?? "";
    if (last !== told) console.log(`    ${last}`);
    told = last;
    if (job.state === "succeeded") return job;
    if (job.ended_at !== null) throw new Error(`job ${id} ${job.state}: ${job.error?.detail}`);
    await new Promise(resolve => setTimeout(resolve, POLL_MS));
  }
}

interface Results {
  results: ({ label?: string | null; text?: string } | { error: { detail: string } })[];
}

/** The task's answers, a label or a text each; by default its active prompt's. */
export async function answer(
  product: Product,
  task: string,
  cases: readonly TestCase[],
  metric: DataSet["metric"],
  prompt?: InferRequest["prompt"],
  more: InferRequest = {},
): Promise<string[]> {
  const given: string[] = [];
  const generation = metric === "bleu";
  const longest = Math.max(...cases.map(({ input }) => JSON.stringify(input).length));
  const count = Math.max(1, Math.min(INPUTS, Math.floor(CHARACTERS / longest)));
  await load(Math.ceil(cases.length / count), AT_ONCE, async index => {
    const inputs = cases.slice(index * count, (index + 1) * count).map(({ input }) => input);
    const { results } = await product.post<Results>(`/tasks/${task}/infer`, {
      inputs,
      timeout_ms: TIMEOUT_MS,
      ...(prompt !== undefined && { prompt }),
      ...(generation && { max_tokens: MAX_TOKENS }),
      ...more,
    });
    for (const [at, result] of results.entries()) {
      if ("error" in result) throw new Error(result.error.detail);
      given[index * count + at] = generation ? result.text!.trim() : (result.label ?? "");
    }
  });
  return given;
}

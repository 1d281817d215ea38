/**
 * What training gains where a context is more than a sentence: each task's hard prompt, with label biases where it has
 * labels, against the prefix that starts from it, on the same test inputs, over HTTP; JSON against its schema; a prefix
 * moved onto another prompt against one that was trained there.
 * Each context is kept in bench/results/contexts, so that one can be measured again alone; with `--baselines` its hard
 * prompt alone, beside the trained one as it was measured before.
 *
 *     npm run bench -- contexts [--data ../shared/data] [--only long,json] [--baselines] [--set '{"steps":20}' --limit 40]
 */
import { existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { parseArgs } from "node:util";
import Ajv from "ajv/dist/2020.js";
import type { PromptRef } from "../../src/contract/common.ts";
import type { PromptRecord } from "../../src/contract/prompt.ts";
import type { TrainSettingsRequest } from "../../src/contract/train.ts";
import { mcnemar } from "../../src/training/evaluation/significance.ts";
import { picture } from "../harness/picture.ts";
import { Product } from "../harness/product.ts";
import { type Check, check, type Machine, machineName, publish, thisMachine } from "../harness/report.ts";
import { summarise } from "../harness/samples.ts";
import type { DataSet } from "../learning/data.ts";
import { answer, fitBiases, trainOn } from "../learning/own.ts";
import { type Context, contexts, type Sizes } from "./contexts.ts";
import { slotF1 } from "./slots.ts";

const root = new URL("../../", import.meta.url).pathname;
/** Points that a trained prompt must bring. */
const GAIN = 5;
const SIZES: Sizes = { train: 2000, dev: 200, test: 400 };
/** Of long inputs, which are in test alone: each costs as much as thirty others. */
const LONG: Sizes = { ...SIZES, test: 120 };
const SEED = 1;
/** As a hard prompt answers where it is active. */
const FITTED = "hard, with biases";

interface Row {
  context: string;
  about: string;
  metric: Context["metric"];
  /** Shares of 1, by prompt; `hard` is the hard prompt by its version. */
  scores: Record<string, number>;
  /** McNemar's, of the baseline and the trained prompt; null for texts, and where the baseline was measured later. */
  p_value: number | null;
  tokens: { base: number; hard: number; trained: number };
  training_seconds: number;
  json_valid: number | null;
  examples: Sizes;
  date: string;
  /** Where they were measured later. */
  baselines_date?: string;
  /** That trained; rows of before have none. */
  machine?: Machine;
}

const pathOf = (context: string) => join(root, "bench/results/contexts", `${context}.json`);

function keep(row: Row): void {
  mkdirSync(join(root, "bench/results/contexts"), { recursive: true });
  writeFileSync(pathOf(row.context), `${JSON.stringify(row, null, 2)}\n`);
}

const kept = (context: string): Row | null =>
  existsSync(pathOf(context)) ? (JSON.parse(readFileSync(pathOf(context), "utf8")) as Row) : null;

export async function run(args: string[]): Promise<void> {
  const { values } = parseArgs({
    args,
    options: {
      data: { type: "string", default: join(root, "../shared/data") },
      only: { type: "string" },
      baselines: { type: "boolean", default: false },
      limit: { type: "string" },
      set: { type: "string", default: "{}" },
    },
  });
  const wanted = values.only?.split(",") ?? Object.keys(contexts);
  const trial = values.limit !== undefined || values.set !== "{}";
  const limited = (sizes: Sizes): Sizes => {
    const most = Number(values.limit ?? Number.POSITIVE_INFINITY);
    return {
      train: Math.min(most, sizes.train),
      dev: Math.min(most, sizes.dev),
      test: Math.min(most, sizes.test),
    };
  };
  const product = await Product.start("contexts");
  try {
    for (const name of wanted) {
      const sizes = limited(name === "long" ? LONG : SIZES);
      const context = contexts[name]!(values.data, sizes);
      const opened = await open(product, context);
      const row = values.baselines
        ? await baselinesAgain(opened)
        : await measure(opened, sizes, JSON.parse(values.set) as TrainSettingsRequest);
      console.log(JSON.stringify(row, null, 1));
      if (!trial) keep(row);
    }
  } finally {
    await product.stop();
  }
  if (trial) return console.log("a trial: nothing is published");
  const rows = Object.keys(contexts).flatMap(name => kept(name) ?? []);
  const checks = rows.flatMap(checksOf);
  await publish({
    name: "contexts",
    command: "npm run bench -- contexts",
    checks,
    figures: Object.fromEntries(
      rows.flatMap(({ context, scores }) =>
        Object.entries(scores).map(([prompt, score]) => [
          `${context}: ${prompt}, of 100`,
          summarise([100 * score]),
        ]),
      ),
    ),
    more: { rows },
    picture: picture("Complex contexts: what a trained prefix brings", checks),
    machines: [...new Set(rows.flatMap(({ machine }) => (machine ? machineName(machine) : [])))],
  });
}

function checksOf({ context, scores, json_valid, tokens }: Row): Check[] {
  const baseline = FITTED in scores ? FITTED : "hard";
  const gain = 100 * (scores.trained! - scores[baseline]!);
  const claim = `${context}: trained over ${baseline} (${tokens.trained} and ${tokens.hard} tokens)`;
  return [
    check(claim, "points", [gain], { floor: GAIN }),
    ...(json_valid === null
      ? []
      : [check(`${context}: texts that satisfy the schema`, "%", [100 * json_valid], { floor: 100 })]),
  ];
}

/** A context's task with its hard prompt. */
interface Opened {
  product: Product;
  context: Context;
  set: DataSet;
  /** What all of its prompts are stacked on. */
  on: { ref: PromptRef; length: number } | null;
  hard: PromptRecord;
}

async function open(product: Product, context: Context): Promise<Opened> {
  const { name, labels, template, base, data } = context;
  await product.post("/tasks", labels ? { id: name, labels } : { id: name, type: "generation" });
  const on = base === undefined ? null : await baseOf(product, name, base);
  const set: DataSet = { ...data, name, task: name, metric: labels ? "accuracy" : "bleu", leftOut: 0 };
  return { product, context, set, on, hard: await add({ product, context, on }, { template }) };
}

const add = ({ product, context, on }: Pick<Opened, "product" | "context" | "on">, body: object) =>
  product.post<PromptRecord>(`/tasks/${context.name}/prompts`, { ...body, ...(on && { on: on.ref }) });

/** Of a version, or of what is active. */
const answersOf = ({ product, context: { name, jsonSchema }, set }: Opened, version?: number) =>
  answer(product, name, set.test, set.metric, version, jsonSchema && { json_schema: jsonSchema });

/** The hard prompt's answers, by its version and, where it has labels, active with biases. */
async function baselines(opened: Opened): Promise<Record<string, string[]>> {
  const { product, context, set, hard } = opened;
  const given = { hard: await answersOf(opened, hard.version) };
  if (!context.labels) return given;
  await product.put(`/tasks/${context.name}/active`, { prompt: hard.version });
  await fitBiases(product, context.name, set, SEED);
  return { ...given, [FITTED]: await answersOf(opened) };
}

async function baselinesAgain(opened: Opened): Promise<Row> {
  const { context } = opened;
  const row = kept(context.name);
  if (!row) throw new Error(`${context.name} was not measured before: leave --baselines out`);
  const scores = { ...row.scores, ...scoresOf(context, await baselines(opened)) };
  return { ...row, scores, p_value: null, baselines_date: new Date().toISOString() };
}

const truthOf = ({ data }: Context): string[] => data.test.map(({ answers }) => answers[0]!);

function scoresOf(context: Context, given: Record<string, string[]>): Record<string, number> {
  const truth = truthOf(context);
  const score = (texts: readonly string[]) =>
    context.metric === "accuracy"
      ? texts.filter((text, at) => text === truth[at]).length / texts.length
      : slotF1(texts.map(parsed), truth.map(parsed));
  return Object.fromEntries(Object.entries(given).map(([prompt, texts]) => [prompt, score(texts)]));
}

async function measure(opened: Opened, sizes: Sizes, more: TrainSettingsRequest): Promise<Row> {
  const { product, context, set, on, hard } = opened;
  const { name: task, about, template, metric, jsonSchema } = context;
  const settings = { template, seed: SEED, ...context.settings, ...more };
  const train = (stack: { on?: PromptRef }) => trainOn(product, task, set, { ...settings, ...stack });
  const trained = await train(on ? { on: on.ref } : {});
  const versions: Record<string, number> = { trained: trained.version };
  if (on) {
    const alone = await train({});
    const moved = await add(opened, { from: { task, version: alone.version } });
    Object.assign(versions, { "trained alone": alone.version, "trained alone, moved": moved.version });
  }
  const given = await baselines(opened);
  for (const [prompt, version] of Object.entries(versions)) given[prompt] = await answersOf(opened, version);
  const { length } = await product.get<PromptRecord>(`/tasks/${task}/prompts/${trained.version}`);
  return {
    context: task,
    about,
    metric,
    scores: scoresOf(context, given),
    p_value:
      metric === "accuracy" ? pValue(given[FITTED] ?? given.hard!, given.trained!, truthOf(context)) : null,
    tokens: { base: on?.length ?? 0, hard: hard.length, trained: length },
    training_seconds: Math.round(trained.trainingSeconds),
    json_valid: jsonSchema ? validShare(Object.values(given).flat(), jsonSchema) : null,
    examples: sizes,
    date: new Date().toISOString(),
    machine: thisMachine(),
  };
}

async function baseOf(product: Product, task: string, template: string) {
  const id = `${task}-base`;
  await product.post("/tasks", { id, type: "generation", prompt: { template } });
  const { length } = await product.get<PromptRecord>(`/tasks/${id}/prompts/1`);
  return { ref: { task: id, version: 1 }, length };
}

function parsed(text: string): object {
  try {
    return JSON.parse(text) as object;
  } catch {
    return {};
  }
}

function validShare(texts: readonly string[], schema: object): number {
  const valid = new Ajv.default({ strict: false }).compile(schema);
  return texts.filter(text => valid(parsed(text))).length / texts.length;
}

function pValue(baseline: readonly string[], trained: readonly string[], truth: readonly string[]): number {
  const judged = (given: readonly string[]) =>
    given.map((text, at) => ({ given: text, wanted: truth[at]!, loss: null }));
  return mcnemar(judged(baseline), judged(trained));
}

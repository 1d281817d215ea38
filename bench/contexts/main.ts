/**
 * What training gains where a context is more than a sentence: each task's hard prompt against the prefix that starts
 * from it, on the same test inputs, over HTTP; JSON against its schema; a prefix moved onto another prompt against one
 * that was trained there.
 * Each context is kept in bench/results/contexts, so that one can be measured again alone.
 *
 *     npm run bench -- contexts [--data ../shared/data] [--only long,json] [--set '{"steps":20}' --limit 40]
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
import { type Check, check, publish } from "../harness/report.ts";
import { summarise } from "../harness/samples.ts";
import { answer, trainOn } from "../learning/own.ts";
import { type Context, contexts, type Sizes } from "./contexts.ts";
import { slotF1 } from "./slots.ts";

const root = new URL("../../", import.meta.url).pathname;
/** Points that a trained prompt must bring. */
const GAIN = 5;
const SIZES: Sizes = { train: 2000, dev: 200, test: 400 };
/** Of long inputs, which are in test alone: each costs as much as thirty others. */
const LONG: Sizes = { ...SIZES, test: 120 };

interface Row {
  context: string;
  about: string;
  metric: Context["metric"];
  /** Shares of 1, by prompt. */
  scores: Record<string, number>;
  /** McNemar's, of the hard prompt and the trained one; null for texts. */
  p_value: number | null;
  tokens: { base: number; hard: number; trained: number };
  training_seconds: number;
  json_valid: number | null;
  examples: Sizes;
  date: string;
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
      const row = await measure(product, context, sizes, JSON.parse(values.set) as TrainSettingsRequest);
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
  });
}

function checksOf({ context, scores, json_valid, tokens }: Row): Check[] {
  const gain = 100 * (scores.trained! - scores.hard!);
  return [
    check(`${context}: trained over hard (${tokens.trained} and ${tokens.hard} tokens)`, "points", [gain], {
      floor: GAIN,
    }),
    ...(json_valid === null
      ? []
      : [check(`${context}: texts that satisfy the schema`, "%", [100 * json_valid], { floor: 100 })]),
  ];
}

async function measure(
  product: Product,
  context: Context,
  sizes: Sizes,
  more: TrainSettingsRequest,
): Promise<Row> {
  const { name: task, labels, template, base, data, metric } = context;
  await product.post("/tasks", labels ? { id: task, labels } : { id: task, type: "generation" });
  const on = base === undefined ? null : await baseOf(product, task, base);
  const add = (body: object) =>
    product.post<PromptRecord>(`/tasks/${task}/prompts`, { ...body, ...(on && { on: on.ref }) });
  const hard = await add({ template });
  const settings = { template, seed: 1, ...context.settings, ...more };
  const set = {
    ...data,
    name: task,
    task,
    metric: labels ? ("accuracy" as const) : ("bleu" as const),
    leftOut: 0,
  };
  const train = (stack: { on?: PromptRef }) => trainOn(product, task, set, { ...settings, ...stack });
  const trained = await train(on ? { on: on.ref } : {});
  const versions: Record<string, number> = { hard: hard.version, trained: trained.version };
  if (on) {
    const alone = await train({});
    const moved = await add({ from: { task, version: alone.version } });
    Object.assign(versions, { "trained alone": alone.version, "trained alone, moved": moved.version });
  }
  const given: Record<string, string[]> = {};
  for (const [prompt, version] of Object.entries(versions)) {
    const { jsonSchema } = context;
    given[prompt] = await answer(
      product,
      task,
      data.test,
      set.metric,
      version,
      jsonSchema && { json_schema: jsonSchema },
    );
  }
  const truth = data.test.map(({ answers }) => answers[0]!);
  const score = (texts: readonly string[]) =>
    metric === "accuracy"
      ? texts.filter((text, at) => text === truth[at]).length / texts.length
      : slotF1(texts.map(parsed), truth.map(parsed));
  const tokens = (version: number) =>
    product.get<PromptRecord>(`/tasks/${task}/prompts/${version}`).then(({ length }) => length);
  return {
    context: task,
    about: context.about,
    metric,
    scores: Object.fromEntries(Object.entries(given).map(([prompt, texts]) => [prompt, score(texts)])),
    p_value: metric === "accuracy" ? pValue(given.hard!, given.trained!, truth) : null,
    tokens: {
      base: on?.length ?? 0,
      hard: await tokens(hard.version),
      trained: await tokens(trained.version),
    },
    training_seconds: Math.round(trained.trainingSeconds),
    json_valid: context.jsonSchema ? validShare(Object.values(given).flat(), context.jsonSchema) : null,
    examples: sizes,
    date: new Date().toISOString(),
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

function pValue(hard: readonly string[], trained: readonly string[], truth: readonly string[]): number {
  const judged = (given: readonly string[]) =>
    given.map((text, at) => ({ given: text, wanted: truth[at]!, loss: null }));
  return mcnemar(judged(hard), judged(trained));
}

/** All that a peer is told: rows as token ids, which rows make a step, where training starts, what to answer. */
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import type { BackboneConfig } from "../../src/backbone/source.ts";
import type { Tokenizer } from "../../src/backbone/tokenizer.ts";
import type { Task } from "../../src/contract/task.ts";
import type { TrainSettingsRequest } from "../../src/contract/train.ts";
import { layoutRow, layoutWritten, type Segment } from "../../src/prompt/layout.ts";
import { compileTemplate } from "../../src/prompt/template.ts";
import { plainPattern } from "../../src/server/tasks.ts";
import { batchAt, tokensOf } from "../../src/training/batches.ts";
import { planOf, settingsOf, wordsBeforeField } from "../../src/training/plan.ts";
import { contextOf, type Decision, layOut, type NextToken } from "../../src/training/rows.ts";
import { asNdjson, type DataSet, MAX_TOKENS } from "./data.ts";

export interface PeerRow {
  ids: number[];
  /** What competes after which token, and how much each counts. */
  decisions: readonly Decision[];
  next: readonly NextToken[];
}

export interface PeerRun {
  /** `prompt`, `prefix`, `ptuning` or `lora`. */
  method: string;
  dtype: "float32" | "bfloat16";
  seed: number;
  rate: number;
  warmup: number;
  clip: number;
  steps: number;
  batchSize: number;
  /** Trained positions, and the ids that virtual tokens begin as. */
  length: number;
  start: readonly number[];
  rows: PeerRow[];
  /** Rows of each step. */
  batches: number[][];
  /** Empty for generation. */
  labels: { label: string; sequences: readonly (readonly number[])[] }[];
  eos: number;
  test: number[][];
  maxTokens: number;
}

export interface PeerRunOptions {
  data: Pick<DataSet, "name" | "task" | "train" | "test">;
  /** `peft-prompt`. */
  method: string;
  dtype?: PeerRun["dtype"];
  seed: number;
  rate: number;
  settings: TrainSettingsRequest;
  tokenizer: Tokenizer;
  config: BackboneConfig;
}

/**
 * The examples as a prefix of Foreword's would have them: rows hold what stands behind the trained positions. LoRA, which
 * has none, keeps the last line of the words that they take the place of (`Question:`).
 */
export async function peerRun(options: PeerRunOptions): Promise<PeerRun> {
  const { data, method, dtype = "float32", seed, rate, tokenizer, config } = options;
  const { template, ...task } = await taskFile(data);
  const request = { ...options.settings, method: "prefix", seed } as const;
  const job = {
    task,
    request,
    template,
    verbalizers: null,
    base: null,
    initial: null,
    teacher: null,
    examples: asNdjson(data.train),
    validation: 0,
    active: null,
    checkpoint: null,
    splitSeed: 0,
    member: 0,
    checkpointSeconds: 30,
  };
  const plan = planOf(job, data.train, tokenizer, config.vocabSize);
  const context = contextOf(plan, task, tokenizer, config.maxPositions);
  const examples = layOut(data.train, context, example => data.train.indexOf(example) + 1, "train");
  // Steps as many as a prefix has, which trains in int8 on the default backbone.
  const { steps, batchSize, warmup, clip } = settingsOf(job, plan, examples, "int8");
  const kept = method === "peft-lora" ? wordsBeforeField(compileTemplate(template)).split("\n").at(-1)! : "";
  const lead = [
    ...(tokenizer.bosId === null ? [] : [tokenizer.bosId]),
    ...tokenizer.encodeWithSpecials(kept.trimEnd()),
  ];
  const at = (position: number) => position + lead.length;
  const lengths = examples.map(tokensOf);
  const firsts = examples.map((_, index) =>
    examples.slice(0, index).reduce((sum, { length }) => sum + length, 0),
  );
  return {
    method: method.replace("peft-", ""),
    dtype,
    seed,
    rate,
    warmup,
    clip,
    steps,
    batchSize,
    length: plan.ids.length,
    start: plan.ids,
    rows: examples.flat().map(({ segments, decisions, next }) => ({
      ids: [...lead, ...idsOf(segments)],
      decisions: decisions.map(each => ({ ...each, at: at(each.at) })),
      next: next.map(each => ({ ...each, at: at(each.at) })),
    })),
    batches: Array.from({ length: steps }, (_, step) =>
      batchAt(step, { lengths, size: batchSize, seed }).flatMap(index =>
        examples[index]!.map((_, row) => firsts[index]! + row),
      ),
    ),
    labels: [...(context.labels?.sequences ?? [])].map(([label, sequences]) => ({ label, sequences })),
    eos: context.eos,
    test: data.test.map(({ input }) => [
      ...lead,
      ...idsOf([
        ...layoutWritten(plan.template, tokenizer),
        ...layoutRow(plan.template, tokenizer, input as string),
      ]),
    ]),
    maxTokens: MAX_TOKENS,
  };
}

const idsOf = (segments: readonly Segment[]): number[] =>
  segments.flatMap(segment => ("ids" in segment ? segment.ids : []));

const library = fileURLToPath(new URL("../../prompts", import.meta.url));

/** What Foreword starts from on this data: the bundled task, or the plain pattern. */
async function taskFile({ name, task, train }: PeerRunOptions["data"]) {
  if (task !== null) {
    const file = JSON.parse(await readFile(join(library, task, "task.json"), "utf8"));
    return file as Pick<Task, "id" | "type" | "labels" | "description"> & { template: string };
  }
  const labels = [...new Set(train.flatMap(each => ("label" in each ? [each.label] : [])))];
  const type = labels.length > 0 ? "classification" : "generation";
  return {
    id: name,
    type,
    labels: labels.length > 0 ? labels : null,
    description: "",
    template: plainPattern[type],
  } as const;
}

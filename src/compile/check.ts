/**
 * What a variant loses against fp32, on text that it was not calibrated on: the loss, and how far the gradient of virtual
 * tokens points the same way, which is harder to keep than a prefix's. Run on every kind of CPU: without the instructions
 * for it, products of bytes may saturate.
 */
import { createHash, randomUUID } from "node:crypto";
import { readFile, rename, writeFile } from "node:fs/promises";
import { arch } from "node:os";
import { dirname, join } from "node:path";
import { gradient } from "../autodiff/gradient.ts";
import { architectures } from "../backbone/architectures/index.ts";
import { undone } from "../backbone/architectures/step.ts";
import { type Feeds, float32, int64, segmentFeeds } from "../backbone/feeds.ts";
import { embeddingOf } from "../backbone/names.ts";
import { generationLoss } from "../backbone/objective.ts";
import type { BackboneSource } from "../backbone/source.ts";
import { specialise } from "../graph/specialise.ts";
import type { Runtime } from "../runtime/runtime.ts";
import type { CompiledBackbone } from "./backbone.ts";
import { plainFeeds, runsOf } from "./calibrate.ts";
import { heldOutTexts } from "./texts.ts";

/** Tokens of a passage, of those virtual ones, and tokens of a run. */
const TOKENS = 96;
const VIRTUAL = 8;
const RUN_TOKENS = 192;

export interface VariantCheck {
  /** Mean of -log P of a token (nats). */
  text_loss: { fp32: number; int8: number };
  /** Cosine between the gradients of both variants. */
  gradient_cosine: number;
}

/** Bounds of the gate, in the units of `VariantCheck`. */
const LOSS = 0.02;
const COSINE = 0.7;

export const serves = ({ text_loss }: VariantCheck): boolean => text_loss.int8 - text_loss.fp32 <= LOSS;
export const trains = (check: VariantCheck): boolean => serves(check) && check.gradient_cosine >= COSINE;

/** NaN is written as null, and null passes comparisons as 0: a broken variant must not pass when read back. */
const isWhole = (check: VariantCheck | null): check is VariantCheck =>
  [check?.text_loss?.fp32, check?.text_loss?.int8, check?.gradient_cosine].every(Number.isFinite);

export interface CheckContext {
  source: BackboneSource;
  runtime: Runtime;
  encode: (text: string) => number[];
}

/** Checks once on each kind of CPU with each version of the runtime; later calls find the figures beside the weights. */
export async function checkVariant(
  context: CheckContext,
  plain: CompiledBackbone,
  int8: CompiledBackbone,
  progress: (done: number) => void,
): Promise<VariantCheck> {
  const file = await checkFile(dirname(int8.weights.path), context.runtime);
  // One that was cut off is made again.
  const known = await readFile(file, "utf8")
    .then(text => JSON.parse(text) as VariantCheck | null)
    .catch(() => null);
  if (isWhole(known)) return known;
  const a = await measure(context, plain, done => progress(0.7 * done));
  const b = await measure(context, int8, done => progress(0.7 + 0.3 * done));
  const check = {
    text_loss: { fp32: a.loss, int8: b.loss },
    gradient_cosine: cosine(a.gradients, b.gradients),
  };
  const partial = `${file}.${randomUUID()}`;
  await writeFile(partial, `${JSON.stringify(check, null, 2)}\n`);
  await rename(partial, file);
  return check;
}

/** Where the figures of this kind of CPU lie, in the folder of the variant. */
export async function checkFile(folder: string, { info }: Runtime): Promise<string> {
  const kind = createHash("sha256")
    .update(`${info.version} ${await cpuKind()}`)
    .digest("hex");
  return join(folder, `check-${kind.slice(0, 16)}.json`);
}

/** The instructions that decide how products of bytes are computed. */
async function cpuKind(): Promise<string> {
  const info = await readFile("/proc/cpuinfo", "utf8").catch(() => "");
  const flags = /^flags\s*:(.*)$/m.exec(info)?.[1] ?? /^Features\s*:(.*)$/m.exec(info)?.[1] ?? "";
  return `${arch()} ${flags
    .split(" ")
    .filter(flag => /avx|vnni|amx|sve|dotprod|i8mm/.test(flag))
    .sort()
    .join(" ")}`;
}

async function measure(
  { source, runtime, encode }: CheckContext,
  variant: CompiledBackbone,
  progress: (done: number) => void,
) {
  const step = architectures[source.config.architecture](source.config);
  const loss = specialise(generationLoss(step), { "rows?": 1 });
  const graph = gradient(loss, { of: "loss", wrt: ["virtual"], keep: ["loss"], undo: undone });
  const table = await source.read(embeddingOf(source.config));
  const runs = runsOf(heldOutTexts.map(encode), TOKENS, Math.min(RUN_TOKENS, source.config.maxPositions));
  const tokens = runs.flat().reduce((sum, row) => sum + row.length - VIRTUAL, 0);
  const session = await runtime.load(variant.compile(graph), variant.weights);
  const gradients: Float32Array[] = [];
  let total = 0;
  try {
    for (const [done, rows] of runs.entries()) {
      progress(done / runs.length);
      const feeds = textFeeds(rows, table, source, 1 / tokens);
      const found = await session.run(feeds, ["loss", "d.virtual"]);
      total += Number(found.loss!.data[0]);
      gradients.push(found["d.virtual"]!.data as Float32Array);
    }
    return { loss: total, gradients };
  } finally {
    await session.close();
  }
}

/** Rows that begin with virtual tokens, which are the embeddings of their first words; every word behind is predicted. */
function textFeeds(
  rows: readonly (readonly number[])[],
  table: Float32Array,
  { config }: BackboneSource,
  weight: number,
): Feeds {
  const { hiddenSize } = config;
  const sampled: number[] = [];
  const next: number[] = [];
  let start = 0;
  for (const row of rows) {
    for (let at = VIRTUAL - 1; at + 1 < row.length; at++) {
      sampled.push(start + at);
      next.push(row[at + 1]!);
    }
    start += row.length;
  }
  const segments = rows.flatMap(row => {
    const virtual = new Float32Array(VIRTUAL * hiddenSize);
    for (const [slot, id] of row.slice(0, VIRTUAL).entries())
      virtual.set(table.subarray(id * hiddenSize, (id + 1) * hiddenSize), slot * hiddenSize);
    return [{ virtual, count: VIRTUAL }, { ids: row.slice(VIRTUAL) }];
  });
  return {
    ...plainFeeds(rows, config, sampled),
    ...segmentFeeds(segments, hiddenSize),
    next: int64([next.length, 1], next),
    gold: float32([next.length, 1], new Float32Array(next.length).fill(weight)),
  };
}

function cosine(a: readonly Float32Array[], b: readonly Float32Array[]): number {
  const dot = (x: readonly Float32Array[], y: readonly Float32Array[]) =>
    x.reduce((sum, part, i) => sum + part.reduce((inner, value, j) => inner + value * y[i]![j]!, 0), 0);
  return dot(a, b) / Math.sqrt(dot(a, a) * dot(b, b));
}

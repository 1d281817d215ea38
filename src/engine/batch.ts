/** One run of the step graph: rows' work becomes feeds, and the outputs become each row's result. */

import {
  endOf,
  type Feeds,
  float32,
  floats,
  int64,
  layout,
  type Row,
  segmentFeeds,
  segmentsLength,
  startsOf,
  wordFeeds,
} from "../backbone/feeds.ts";
import { keptOf } from "../backbone/kept.ts";
import type { BackboneConfig } from "../backbone/source.ts";
import type { RuntimeTensor, Session } from "../runtime/runtime.ts";
import { blocksOf, samePast } from "./budget.ts";
import { copyRow, type DecodePool, type KvBlock, type KvShape, totalLength } from "./kv.ts";
import { type NextToken, type PrefillResult, type PrefillWork, workLength } from "./work.ts";

const rowOf = (work: PrefillWork): Row => ({
  past: totalLength(work.past),
  trunk: segmentsLength(work.segments),
  branches: work.branches.map(branch => branch.length),
  length: workLength(work),
});

/** `session` runs a `keepingGraph`. */
export class Batch {
  readonly #session: Session;
  readonly #config: BackboneConfig;
  readonly #shape: KvShape;
  readonly #caches: string[];
  #scratch = new Float32Array(0);

  constructor(session: Session, config: BackboneConfig) {
    this.#session = session;
    this.#config = config;
    this.#shape = config;
    this.#caches = Array.from({ length: config.layers }, (_, layer) => Object.values(keptOf(layer))).flat();
  }

  /** Gives the memory back that pasts were laid side by side in. */
  free(): void {
    this.#scratch = new Float32Array(0);
  }

  /** Rows of any prompts and lengths, one run. */
  async prefill(works: readonly PrefillWork[]): Promise<PrefillResult[]> {
    const rows = works.map(rowOf);
    const starts = startsOf(rows);
    const candidates = new Map<number, number>();
    const scored: number[] = [];
    const sampled: number[] = [];
    for (const [index, work] of works.entries()) {
      for (const { end, candidates: wanted } of work.scored) {
        scored.push(starts[index]! + endOf(rows[index]!, end));
        for (const token of wanted) if (!candidates.has(token)) candidates.set(token, candidates.size);
      }
      sampled.push(...work.sampled.map(token => starts[index]! + token));
    }
    const kept = [...works.keys()].filter(index => works[index]!.keep);
    const past = Math.max(...rows.map(row => row.past));
    const outputs = await this.#session.run(
      {
        ...segmentFeeds(
          works.flatMap(work => [...work.segments, ...work.branches.map(ids => ({ ids }))]),
          this.#config.hiddenSize,
        ),
        ...layout(rows, past),
        ...this.#past(works, past),
        scored: int64([scored.length], scored),
        candidates: int64([candidates.size], [...candidates.keys()]),
        sampled: int64([sampled.length], sampled),
        kept: int64([kept.length], kept),
      },
      [
        ...(scored.length ? ["scores"] : []),
        ...(sampled.length ? ["logits"] : []),
        ...(kept.length ? this.#caches : []),
      ],
    );

    const width = Math.max(...rows.map(row => row.length));
    let scoredRow = 0;
    let sampledRow = 0;
    let keptRow = 0;
    return works.map((work, row) => ({
      scores: work.scored.map(({ candidates: wanted }) =>
        takeScores(outputs.scores!, scoredRow++, wanted, candidates),
      ),
      logits: work.sampled.map(() => this.#logits(outputs.logits!, sampledRow++)),
      kept: work.keep ? this.#kept(outputs, keptRow++, rows[row]!.trunk, width) : null,
    }));
  }

  /**
   * One token for every row of the pool, `tokens[row]`. Returns each row's best next token, and the logits (views valid
   * until the next run) if a row wants them: copying them takes 200 kB a row.
   */
  async decode(pool: DecodePool, tokens: readonly number[], withLogits: boolean): Promise<NextToken[]> {
    pool.prepare();
    const rows = tokens.map((_, row) => ({ past: pool.length(row), trunk: 1, branches: [], length: 1 }));
    const dims = [pool.rows, this.#shape.kvHeads, pool.capacity, this.#shape.headDim];
    const feeds: Feeds = {
      ...wordFeeds(tokens, this.#config.hiddenSize),
      ...layout(rows, pool.capacity),
      scored: int64([0], []),
      candidates: int64([0], []),
      sampled: int64([tokens.length], [...tokens.keys()]),
      kept: int64([tokens.length], [...tokens.keys()]),
    };
    for (let layer = 0; layer < this.#shape.layers; layer++) {
      const { key, value } = pool.past(layer);
      feeds[`past_key.${layer}`] = float32(dims, key);
      feeds[`past_value.${layer}`] = float32(dims, value);
    }
    const outputs = await this.#session.run(feeds, [
      "best",
      ...(withLogits ? ["logits"] : []),
      ...this.#caches,
    ]);
    for (let layer = 0; layer < this.#shape.layers; layer++) {
      const { key, value } = keptOf(layer);
      pool.append(layer, floats(outputs[key]!), floats(outputs[value]!));
    }
    pool.advance();
    const best = outputs.best!.data as BigInt64Array;
    return tokens.map((_, row) => ({
      best: Number(best[row]!),
      logits: withLogits ? this.#logits(outputs.logits!, row) : null,
    }));
  }

  /** The past of every row: once where all rows have the same, read where it lies if it is one block; else side by side. */
  #past(works: readonly PrefillWork[], past: number): Feeds {
    const { layers, kvHeads, headDim } = this.#shape;
    const first = blocksOf(works[0]!);
    const shared = works.every(work => samePast(blocksOf(work), first));
    const pasts = shared ? [first] : works.map(blocksOf);
    const rows = pasts.length;
    const dims = [rows, kvHeads, past, headDim];
    const size = rows * kvHeads * past * headDim;
    const inPlace = shared && first.length <= 1;
    if (!inPlace && this.#scratch.length < 2 * layers * size)
      this.#scratch = new Float32Array(2 * layers * size);
    const feeds: Feeds = {};
    for (let layer = 0; layer < layers; layer++) {
      for (const [index, which] of (["key", "value"] as const).entries()) {
        const from = (2 * layer + index) * size;
        const partsOf = (blocks: readonly KvBlock[]) =>
          blocks.map(block => ({ length: block.length, data: block[which][layer]! }));
        const data = inPlace
          ? (first[0]?.[which][layer] ?? new Float32Array(0))
          : this.#scratch.subarray(from, from + size);
        if (!inPlace)
          for (const [row, blocks] of pasts.entries()) copyRow(data, row, past, this.#shape, partsOf(blocks));
        feeds[`past_${which}.${layer}`] = float32(dims, data);
      }
    }
    return feeds;
  }

  #kept(outputs: Record<string, RuntimeTensor>, row: number, length: number, width: number): KvBlock {
    const { layers, kvHeads, headDim } = this.#shape;
    const size = kvHeads * length * headDim;
    // One buffer: thousands of blocks are cached, and the collector visits each buffer by itself.
    const together = new Float32Array(2 * layers * size);
    const take = (which: "key" | "value", first: number) =>
      Array.from({ length: layers }, (_, layer) => {
        const all = floats(outputs[keptOf(layer)[which]]!);
        const block = together.subarray((first + layer) * size, (first + layer + 1) * size);
        for (let head = 0; head < kvHeads; head++) {
          const from = (row * kvHeads + head) * width * headDim;
          block.set(all.subarray(from, from + length * headDim), head * length * headDim);
        }
        return block;
      });
    return { length, key: take("key", 0), value: take("value", layers) };
  }

  #logits(tensor: RuntimeTensor, row: number): Float32Array {
    const width = this.#config.vocabSize;
    return floats(tensor).subarray(row * width, (row + 1) * width);
  }
}

function takeScores(
  tensor: RuntimeTensor,
  row: number,
  wanted: readonly number[],
  columns: ReadonlyMap<number, number>,
): Float32Array {
  const all = floats(tensor);
  return Float32Array.from(wanted, token => all[row * columns.size + columns.get(token)!]!);
}

/** One run of the step graph: rows' work becomes feeds, and the outputs become each row's result. */
import type { BackboneConfig } from "../backbone/source.ts";
import type { RuntimeTensor, Session } from "../runtime/runtime.ts";
import { soleBlock } from "./budget.ts";
import { copyRow, type DecodePool, type KvBlock, type KvShape, totalLength } from "./kv.ts";
import {
  type NextToken,
  type PrefillResult,
  type PrefillWork,
  type Segment,
  segmentLength,
  segmentsLength,
  workLength,
} from "./work.ts";

type Feeds = Record<string, RuntimeTensor>;

const int64 = (dims: readonly number[], data: readonly number[]): RuntimeTensor => ({
  type: "int64",
  dims,
  data: BigInt64Array.from(data, BigInt),
});
const float32 = (dims: readonly number[], data: Float32Array): RuntimeTensor => ({
  type: "float32",
  dims,
  data,
});

/** What one row brings to a run; its tokens stand one after another in the packed order, branches behind the trunk. */
interface Row {
  /** Positions before the first token. */
  past: number;
  trunk: number;
  branches: readonly number[];
  /** Trunk and branches. */
  length: number;
}

const rowOf = (work: PrefillWork): Row => ({
  past: totalLength(work.past),
  trunk: segmentsLength(work.segments),
  branches: work.branches.map(branch => branch.length),
  length: workLength(work),
});

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
    this.#caches = Array.from({ length: config.layers }, (_, layer) => [
      `key.${layer}`,
      `value.${layer}`,
    ]).flat();
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
    const keep = works.some(work => work.keep);
    const past = Math.max(...rows.map(row => row.past));
    const outputs = await this.#session.run(
      {
        ...this.#tokens(works),
        ...layout(rows, past),
        ...this.#past(works, past),
        scored: int64([scored.length], scored),
        candidates: int64([candidates.size], [...candidates.keys()]),
        sampled: int64([sampled.length], sampled),
      },
      [
        ...(scored.length ? ["scores"] : []),
        ...(sampled.length ? ["logits"] : []),
        ...(keep ? this.#caches : []),
      ],
    );

    const width = Math.max(...rows.map(row => row.length));
    let scoredRow = 0;
    let sampledRow = 0;
    return works.map((work, row) => ({
      scores: work.scored.map(({ candidates: wanted }) =>
        takeScores(outputs.scores!, scoredRow++, wanted, candidates),
      ),
      logits: work.sampled.map(() => this.#logits(outputs.logits!, sampledRow++)),
      kept: work.keep ? this.#kept(outputs, row, rows[row]!.trunk, width) : null,
    }));
  }

  /**
   * One token for every row of the pool, `tokens[row]`. Returns each row's best next token, and the logits (views valid
   * until the next run) where a row wants them: they are 200 kB a row to copy.
   */
  async decode(pool: DecodePool, tokens: readonly number[], withLogits: boolean): Promise<NextToken[]> {
    pool.prepare();
    const rows = tokens.map((_, row) => ({ past: pool.length(row), trunk: 1, branches: [], length: 1 }));
    const dims = [pool.rows, this.#shape.kvHeads, pool.capacity, this.#shape.headDim];
    const feeds: Feeds = {
      ...this.#noVirtual(tokens),
      ...layout(rows, pool.capacity),
      scored: int64([0], []),
      candidates: int64([0], []),
      sampled: int64([tokens.length], [...tokens.keys()]),
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
      pool.append(layer, floats(outputs[`key.${layer}`]!), floats(outputs[`value.${layer}`]!));
    }
    pool.advance();
    const best = outputs.best!.data as BigInt64Array;
    return tokens.map((_, row) => ({
      best: Number(best[row]!),
      logits: withLogits ? this.#logits(outputs.logits!, row) : null,
    }));
  }

  #noVirtual(ids: readonly number[]): Feeds {
    return {
      ids: int64([ids.length], ids),
      virtual: float32([1, this.#config.hiddenSize], new Float32Array(this.#config.hiddenSize)),
      slot: int64(
        [ids.length],
        ids.map(() => 0),
      ),
      is_virtual: { type: "bool", dims: [ids.length, 1], data: new Uint8Array(ids.length) },
    };
  }

  #tokens(works: readonly PrefillWork[]): Feeds {
    const segments: Segment[] = works.flatMap(work => [
      ...work.segments,
      ...work.branches.map(ids => ({ ids })),
    ]);
    const virtual = segments.filter(segment => "virtual" in segment);
    const feeds = this.#noVirtual(
      segments.flatMap(segment => ("ids" in segment ? segment.ids : Array<number>(segment.count).fill(0))),
    );
    if (virtual.length === 0) return feeds;
    const slot: number[] = [];
    const isVirtual: number[] = [];
    let slots = 0;
    for (const segment of segments) {
      for (let index = 0; index < segmentLength(segment); index++) {
        isVirtual.push("ids" in segment ? 0 : 1);
        slot.push("ids" in segment ? 0 : slots++);
      }
    }
    const embeddings = new Float32Array(slots * this.#config.hiddenSize);
    let at = 0;
    for (const segment of virtual) {
      embeddings.set(segment.virtual, at);
      at += segment.virtual.length;
    }
    return {
      ...feeds,
      virtual: float32([slots, this.#config.hiddenSize], embeddings),
      slot: int64([slot.length], slot),
      is_virtual: { type: "bool", dims: [slot.length, 1], data: Uint8Array.from(isVirtual) },
    };
  }

  /** The past of every row: one shared block where all rows have the same, else each row's blocks side by side. */
  #past(works: readonly PrefillWork[], past: number): Feeds {
    const { layers, kvHeads, headDim } = this.#shape;
    const shared = sharedBlock(works);
    const rows = shared ? 1 : works.length;
    const dims = [rows, kvHeads, past, headDim];
    const size = rows * kvHeads * past * headDim;
    if (!shared && this.#scratch.length < 2 * layers * size)
      this.#scratch = new Float32Array(2 * layers * size);
    const feeds: Feeds = {};
    for (let layer = 0; layer < layers; layer++) {
      for (const [index, which] of (["key", "value"] as const).entries()) {
        const from = (2 * layer + index) * size;
        const data = shared ? shared[which][layer]! : this.#scratch.subarray(from, from + size);
        if (!shared) {
          for (const [row, work] of works.entries()) {
            copyRow(
              data,
              row,
              past,
              this.#shape,
              work.past.map(block => ({ length: block.length, data: block[which][layer]! })),
            );
          }
        }
        feeds[`past_${which}.${layer}`] = float32(dims, data);
      }
    }
    return feeds;
  }

  #kept(outputs: Record<string, RuntimeTensor>, row: number, length: number, width: number): KvBlock {
    const { layers, kvHeads, headDim } = this.#shape;
    const take = (name: string) =>
      Array.from({ length: layers }, (_, layer) => {
        const all = floats(outputs[`${name}.${layer}`]!);
        const block = new Float32Array(kvHeads * length * headDim);
        for (let head = 0; head < kvHeads; head++) {
          const from = (row * kvHeads + head) * width * headDim;
          block.set(all.subarray(from, from + length * headDim), head * length * headDim);
        }
        return block;
      });
    return { length, key: take("key"), value: take("value") };
  }

  #logits(tensor: RuntimeTensor, row: number): Float32Array {
    const width = this.#config.vocabSize;
    return floats(tensor).subarray(row * width, (row + 1) * width);
  }
}

const floats = (tensor: RuntimeTensor): Float32Array => tensor.data as Float32Array;

const startsOf = (rows: readonly Row[]): number[] => {
  const starts: number[] = [];
  let next = 0;
  for (const row of rows) {
    starts.push(next);
    next += row.length;
  }
  return starts;
};

/** The last token of the trunk (-1) or of a branch, counted through the row. */
const endOf = (row: Row, branch: number): number =>
  row.trunk + row.branches.slice(0, branch + 1).reduce((sum, length) => sum + length, 0) - 1;

/** A row's tokens: where each one's branch begins (null in the trunk), and its position. */
function* tokensOf({ past, trunk, branches }: Row): Generator<{ branch: number | null; position: number }> {
  for (let token = 0; token < trunk; token++) yield { branch: null, position: past + token };
  let start = trunk;
  for (const length of branches) {
    for (let token = 0; token < length; token++) yield { branch: start, position: past + trunk + token };
    start += length;
  }
}

/** Positions, the way between packed tokens and `rows × new`, and the mask. */
function layout(rows: readonly Row[], past: number): Feeds {
  const width = Math.max(...rows.map(row => row.length));
  const starts = startsOf(rows);
  const positions = rows.flatMap(row => [...tokensOf(row)].map(token => token.position));
  const unpad = rows.flatMap((row, index) =>
    Array.from({ length: row.length }, (_, token) => index * width + token),
  );
  // Padding repeats the row's own first token: whatever it computes, no other row is touched.
  const pad = rows.flatMap((row, index) =>
    Array.from({ length: width }, (_, token) => starts[index]! + (token < row.length ? token : 0)),
  );
  return {
    positions: int64([positions.length], positions),
    unpad: int64([unpad.length], unpad),
    pad: int64([rows.length, width], pad),
    parts: int64([2], [past, width]),
    mask: float32([rows.length, 1, width, past + width], maskOf(rows, past, width)),
  };
}

/** 0 where a token may look, -inf elsewhere: [rows, 1, width, past + width]. Padding looks anywhere, so that it stays finite. */
function maskOf(rows: readonly Row[], past: number, width: number): Float32Array {
  const span = past + width;
  const mask = new Float32Array(rows.length * width * span);
  for (const [index, row] of rows.entries()) {
    let token = 0;
    for (const { branch } of tokensOf(row)) {
      const line = (index * width + token) * span;
      mask.fill(-Infinity, line + row.past, line + past);
      if (branch !== null) mask.fill(-Infinity, line + past + row.trunk, line + past + branch);
      mask.fill(-Infinity, line + past + token + 1, line + span);
      token++;
    }
  }
  return mask;
}

/** The one block that is every row's whole past, if there is such; an empty one where no row has any. */
function sharedBlock(works: readonly PrefillWork[]): KvBlock | null {
  const first = soleBlock(works[0]!);
  if (first === undefined || works.some(work => soleBlock(work) !== first)) return null;
  return first ?? works[0]!.past[0] ?? null;
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

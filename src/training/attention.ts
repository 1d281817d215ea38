/**
 * Attention over one long row, so many queries of a head at a time: what grows with the square of a row's length, the
 * scores, is never held whole (in the manner of Rabe & Staats 2021). A query sees no key behind itself, so a part reads the keys up
 * to its last query alone: half of the arithmetic.
 */
import { gradient } from "../autodiff/gradient.ts";
import { type Feeds, float32, floats } from "../backbone/feeds.ts";
import type { BackboneConfig } from "../backbone/source.ts";
import { GraphBuilder } from "../graph/builder.ts";
import type { Dim } from "../graph/dims.ts";
import type { Graph } from "../graph/graph.ts";
import type { RuntimeTensor, Tensors } from "../runtime/runtime.ts";
import { elementCount } from "../tensor/tensor.ts";

/** Bytes of one tensor of scores; the way back has about six. */
const SCORE_BYTES = 2 ** 22;

/** Graphs for one head: `query` [queries, headDim], `key` and `value` [keys, headDim], `mask` [queries, keys]. */
export interface AttentionGraphs {
  /** → `mixed` [queries, headDim]. */
  forward: Graph;
  /** With `d.mixed` → `d.query`, `d.key`, `d.value`. */
  back: Graph;
}

export function attentionGraphs({ headDim }: BackboneConfig): AttentionGraphs {
  const g = new GraphBuilder("attention");
  const input = (name: string, ...shape: Dim[]) => g.input(name, "float32", shape);
  const query = input("query", "queries", headDim);
  const key = input("key", "keys", headDim);
  const value = input("value", "keys", headDim);
  const mask = input("mask", "queries", "keys");
  const scores = g.op("FusedMatMul", [query, key], { alpha: 1, transA: 0, transB: 1 }, "scores");
  const masked = g.op("Add", [scores, mask], {}, "masked");
  const weights = g.op("Softmax", [masked], { axis: 1 }, "weights");
  const forward = g.finish({ mixed: g.op("MatMul", [weights, value], {}) });
  return { forward, back: gradient(forward, { of: { mixed: "d.mixed" }, wrt: ["query", "key", "value"] }) };
}

/** A part of the queries: from `start` to `end`, which see the first `seen` of all keys. */
interface Part {
  start: number;
  end: number;
  seen: number;
  mask: RuntimeTensor;
}

export interface AttentionOptions {
  config: BackboneConfig;
  graphs: AttentionGraphs;
  /** The feeds of the row's step, with a prefix as long as that of every layer. */
  feeds: Feeds;
  run: (graph: Graph, feeds: Tensors) => Promise<Tensors>;
  /** Awaited before each head. */
  pause?: (() => Promise<void>) | undefined;
  scoreBytes?: number | undefined;
}

/** Keys, values and queries of one row, `[1, kvHeads, positions, headDim]`; queries `[1, kvHeads, group, positions, headDim]`. */
export type Projected = Readonly<
  Record<"query" | "key" | "value" | "past_key" | "past_value", RuntimeTensor>
>;

export class RowAttention {
  readonly #options: AttentionOptions;
  readonly #parts: readonly Part[];

  constructor(options: AttentionOptions) {
    this.#options = options;
    const { feeds, scoreBytes = SCORE_BYTES } = options;
    const [rows, , , length, span] = feeds.mask!.dims as [number, number, number, number, number];
    if (rows !== 1) throw new Error(`attention in parts takes one row, not ${rows}`);
    const queries = Math.max(1, Math.floor(scoreBytes / (4 * span)));
    const mask = floats(feeds.mask!);
    this.#parts = Array.from({ length: Math.ceil(length / queries) }, (_, index) => {
      const [start, end] = [index * queries, Math.min(length, (index + 1) * queries)];
      const seen = span - length + end;
      const data = new Float32Array((end - start) * seen);
      for (let query = start; query < end; query++)
        data.set(mask.subarray(query * span, query * span + seen), (query - start) * seen);
      return { start, end, seen, mask: float32([end - start, seen], data) };
    });
  }

  /** `[1, kvHeads, group, positions, headDim]`. */
  async forward(of: Projected): Promise<RuntimeTensor> {
    const { graphs, run } = this.#options;
    const mixed = zeros(of.query.dims);
    for await (const { query, feeds } of this.#turns(joined(of)))
      floats(query(mixed)).set(floats((await run(graphs.forward, feeds)).mixed!));
    return mixed;
  }

  /** Cotangents of everything projected, by `d.<name>`. */
  async back(of: Projected, dMixed: RuntimeTensor): Promise<Record<`d.${keyof Projected}`, RuntimeTensor>> {
    const { graphs, run } = this.#options;
    const all = joined(of);
    const [dQuery, dKey, dValue] = [zeros(all.query.dims), zeros(all.key.dims), zeros(all.value.dims)];
    for await (const { query, keys, feeds } of this.#turns(all)) {
      const found = await run(graphs.back, { ...feeds, "d.mixed": query(dMixed) });
      floats(query(dQuery)).set(floats(found["d.query"]!));
      addTo(floats(keys(dKey)), floats(found["d.key"]!));
      addTo(floats(keys(dValue)), floats(found["d.value"]!));
    }
    const [past, end] = [lengthOf(of.past_key), lengthOf(dKey)];
    return {
      "d.query": dQuery,
      "d.key": apart(dKey, past, end),
      "d.value": apart(dValue, past, end),
      "d.past_key": apart(dKey, 0, past),
      "d.past_value": apart(dValue, 0, past),
    };
  }

  /** Every part of every head: what it is given, and where its queries and keys lie in any tensor like theirs. */
  async *#turns({ query, key, value }: Joined) {
    const { pause, config } = this.#options;
    const { heads, kvHeads } = config;
    for (let head = 0; head < heads; head++) {
      await pause?.();
      for (const { start, end, seen, mask } of this.#parts) {
        const queries = (of: RuntimeTensor) => view(of, head, start, end);
        const keys = (of: RuntimeTensor) => view(of, Math.floor((head * kvHeads) / heads), 0, seen);
        const feeds = { query: queries(query), key: keys(key), value: keys(value), mask };
        yield { query: queries, keys, feeds };
      }
    }
  }
}

/** A row's queries, and all keys and values that they may see. */
type Joined = Readonly<Record<"query" | "key" | "value", RuntimeTensor>>;

function joined({ query, key, value, past_key, past_value }: Projected): Joined {
  const join = (past: RuntimeTensor, now: RuntimeTensor) => {
    const [before, length] = [lengthOf(past), lengthOf(past) + lengthOf(now)];
    const all = zeros(now.dims.with(-2, length));
    for (let head = 0; head < headsOf(now); head++) {
      floats(view(all, head, 0, before)).set(floats(view(past, head, 0, before)));
      floats(view(all, head, before, length)).set(floats(view(now, head, 0, length - before)));
    }
    return all;
  };
  return { query, key: join(past_key, key), value: join(past_value, value) };
}

const lengthOf = ({ dims }: RuntimeTensor): number => dims.at(-2)!;
const headsOf = ({ dims }: RuntimeTensor): number => elementCount(dims.slice(0, -2));
const zeros = (dims: readonly number[]): RuntimeTensor => float32(dims, new Float32Array(elementCount(dims)));

/** Positions `start` to `end` of a head of `[…, positions, headDim]`, where they lie. */
function view(of: RuntimeTensor, head: number, start: number, end: number): RuntimeTensor {
  const size = of.dims.at(-1)!;
  const at = head * lengthOf(of);
  return float32([end - start, size], floats(of).subarray((at + start) * size, (at + end) * size));
}

/** Positions `start` to `end` of every head. */
function apart(from: RuntimeTensor, start: number, end: number): RuntimeTensor {
  const part = zeros(from.dims.with(-2, end - start));
  for (let head = 0; head < headsOf(from); head++)
    floats(view(part, head, 0, end - start)).set(floats(view(from, head, start, end)));
  return part;
}

export function addTo(sum: Float32Array, more: Float32Array): void {
  for (let i = 0; i < sum.length; i++) sum[i] = sum[i]! + more[i]!;
}

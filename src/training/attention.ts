/**
 * Attention over one long row, so many queries at a time: what grows with the square of a row's length, the scores, is
 * never held whole (in the manner of Rabe & Staats 2021). A query sees no key behind itself, so a part reads the keys up
 * to its last query alone: half of the arithmetic.
 */
import { gradient } from "../autodiff/gradient.ts";
import { attend } from "../backbone/architectures/attention.ts";
import { type Feeds, float32, int64 } from "../backbone/feeds.ts";
import type { BackboneConfig } from "../backbone/source.ts";
import { GraphBuilder } from "../graph/builder.ts";
import type { Graph } from "../graph/graph.ts";
import type { Tensors } from "../runtime/runtime.ts";
import type { Method } from "./graph.ts";

/** Bytes of one tensor of scores; the way back holds about six. */
const SCORE_BYTES = 2 ** 24;

export interface AttentionGraphs {
  /** `query`, `key`, `value`, `past_key`, `past_value`, `mask`, `parts` → `mixed`. */
  forward: Graph;
  /** With `d.mixed` → `d.query`, `d.key`, `d.value`, and where a prefix is trained `d.past_key` and `d.past_value`. */
  back: Graph;
}

export function attentionGraphs(
  { heads, kvHeads, headDim }: BackboneConfig,
  method: Method,
): AttentionGraphs {
  const g = new GraphBuilder("attention");
  const input = (name: string, length: string) => g.input(name, "float32", [1, kvHeads, length, headDim]);
  const query = g.input("query", "float32", [1, kvHeads, heads / kvHeads, "queries", headDim]);
  const now = { key: input("key", "keys"), value: input("value", "keys") };
  const past = { key: input("past_key", "past"), value: input("past_value", "past") };
  const mask = g.input("mask", "float32", [1, 1, 1, "queries", "keys+past"]);
  const mixed = attend(g, query, now, past, mask, g.input("parts", "int64", [2]));
  const forward = g.finish({ mixed });
  const wrt = ["query", "key", "value", ...(method === "prefix" ? ["past_key", "past_value"] : [])];
  return { forward, back: gradient(forward, { of: { mixed: "d.mixed" }, wrt }) };
}

/** A part of the queries: from `start` to `end`, which is also where its keys end. */
interface Part {
  start: number;
  end: number;
  feeds: Feeds;
}

export interface AttentionOptions {
  config: BackboneConfig;
  graphs: AttentionGraphs;
  /** Of the row's step, with a prefix that all its layers are as long as. */
  feeds: Feeds;
  run: (graph: Graph, feeds: Tensors) => Promise<Tensors>;
  scoreBytes?: number | undefined;
}

/** Keys, values and queries of one row, `[1, kvHeads, positions, headDim]`; queries `[1, kvHeads, group, positions, headDim]`. */
type Projected = Readonly<Record<"query" | "key" | "value" | "past_key" | "past_value", Tensors[string]>>;

export class RowAttention {
  readonly #options: AttentionOptions;
  readonly #length: number;
  readonly #parts: readonly Part[];

  constructor(options: AttentionOptions) {
    this.#options = options;
    const { config, feeds, scoreBytes = SCORE_BYTES } = options;
    const [rows, , , length, span] = feeds.mask!.dims as [number, number, number, number, number];
    if (rows !== 1) throw new Error(`attention in parts takes one row, not ${rows}`);
    this.#length = length;
    const queries = Math.max(1, Math.floor(scoreBytes / (4 * config.heads * span)));
    const mask = feeds.mask!.data as Float32Array;
    this.#parts = Array.from({ length: Math.ceil(length / queries) }, (_, index) => {
      const [start, end] = [index * queries, Math.min(length, (index + 1) * queries)];
      const seen = span - length + end;
      const data = new Float32Array((end - start) * seen);
      for (let query = start; query < end; query++)
        data.set(mask.subarray(query * span, query * span + seen), (query - start) * seen);
      return {
        start,
        end,
        feeds: { mask: float32([1, 1, 1, end - start, seen], data), parts: int64([2], [span - length, end]) },
      };
    });
  }

  /** `[1, kvHeads, group, positions, headDim]`. */
  async forward(of: Projected): Promise<Tensors[string]> {
    const { graphs, run } = this.#options;
    const mixed = new Float32Array(of.query.data.length);
    for (const part of this.#parts)
      this.#put(mixed, this.#group, part, (await run(graphs.forward, this.#feeds(of, part))).mixed!);
    return float32(of.query.dims, mixed);
  }

  /** Cotangents of everything projected, by `d.<name>`. */
  async back(of: Projected, mixed: Tensors[string]): Promise<Record<string, Tensors[string]>> {
    const { graphs, run } = this.#options;
    const wanted = graphs.back.outputs.map(({ name }) => name);
    const sums = Object.fromEntries(
      wanted.map(name => {
        const { dims, data } = of[name.slice("d.".length) as keyof Projected];
        return [name, float32(dims, new Float32Array(data.length))];
      }),
    );
    for (const part of this.#parts) {
      const found = await run(graphs.back, {
        ...this.#feeds(of, part),
        "d.mixed": this.#queries(mixed, part),
      });
      for (const name of wanted) {
        const sum = sums[name]!.data as Float32Array;
        if (name === "d.query") this.#put(sum, this.#group, part, found[name]!);
        else if (name.startsWith("d.past")) addTo(sum, found[name]!.data as Float32Array);
        else this.#put(sum, 1, { start: 0, end: part.end }, found[name]!);
      }
    }
    return sums;
  }

  get #group(): number {
    return this.#options.config.heads / this.#options.config.kvHeads;
  }

  #feeds({ query, key, value, past_key, past_value }: Projected, part: Part): Tensors {
    const { kvHeads, headDim } = this.#options.config;
    const upTo = (x: Tensors[string]) =>
      float32([1, kvHeads, part.end, headDim], this.#take(x, 1, 0, part.end));
    return {
      ...part.feeds,
      query: this.#queries(query, part),
      key: upTo(key),
      value: upTo(value),
      past_key,
      past_value,
    };
  }

  #queries(x: Tensors[string], { start, end }: Part): Tensors[string] {
    const { kvHeads, headDim } = this.#options.config;
    const group = this.#group;
    return float32([1, kvHeads, group, end - start, headDim], this.#take(x, group, start, end));
  }

  /** Positions `start` to `end` of every head; of queries, a key's head has `group`. */
  #take({ data }: Tensors[string], group: number, start: number, end: number): Float32Array {
    const { kvHeads, headDim } = this.#options.config;
    const size = (end - start) * headDim;
    const part = new Float32Array(kvHeads * group * size);
    for (let head = 0; head < kvHeads * group; head++) {
      const from = (head * this.#length + start) * headDim;
      part.set((data as Float32Array).subarray(from, from + size), head * size);
    }
    return part;
  }

  /** Adds what `#take` took, or what became of it, where it was. */
  #put(
    sum: Float32Array,
    group: number,
    { start, end }: { start: number; end: number },
    part: Tensors[string],
  ) {
    const { kvHeads, headDim } = this.#options.config;
    const size = (end - start) * headDim;
    for (let head = 0; head < kvHeads * group; head++) {
      const at = (head * this.#length + start) * headDim;
      addTo(
        sum.subarray(at, at + size),
        (part.data as Float32Array).subarray(head * size, (head + 1) * size),
      );
    }
  }
}

export function addTo(sum: Float32Array, more: Float32Array): void {
  for (let i = 0; i < sum.length; i++) sum[i] = sum[i]! + more[i]!;
}

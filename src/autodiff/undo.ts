/** Gathers of rows that another gather undoes: their gradient is that other gather, at a tenth of what scattering costs. */
import type { GraphBuilder } from "../graph/builder.ts";
import { multiply } from "../graph/dims.ts";
import type { Node, Value } from "../graph/graph.ts";
import { reshapeAs } from "./broadcast.ts";

/** Wherever a cotangent is not zero, `by` has the place that each row was taken to. */
export interface Undo {
  /** An index input. */
  by: string;
  /** Some rows are never taken: they get nothing, whatever `by` has for them. */
  partial?: boolean;
}

export class UndoneGathers {
  readonly #g: GraphBuilder;
  /** By the name of the indices. */
  readonly #undo: Readonly<Record<string, Undo>>;
  readonly #input: (name: string) => Value;
  readonly #masks = new Map<Value, Value>();

  constructor(g: GraphBuilder, undo: Readonly<Record<string, Undo>>, input: (name: string) => Value) {
    this.#g = g;
    this.#undo = undo;
    this.#input = input;
  }

  has({ op, inputs }: Node): boolean {
    return op === "Gather" && Object.hasOwn(this.#undo, inputs[1]!.name);
  }

  /** The cotangent of what was gathered from. */
  back({ inputs }: Node, cotangent: Value): Value {
    const [data, indices] = [inputs[0]!, inputs[1]!];
    const { by, partial = false } = this.#undo[indices.name]!;
    const inverse = this.#input(by);
    const flat = [multiply(...indices.shape), ...data.shape.slice(1)];
    const rows = this.#g.op("Reshape", [cotangent], { shape: flat });
    const found = reshapeAs(this.#g, this.#g.op("Gather", [rows, inverse], { axis: 0 }), data);
    return partial ? this.#g.op("Mul", [found, this.#taken(data, indices, inverse)], {}) : found;
  }

  /** 1 for every row of `data` that `indices` take, else 0: [rows, 1]. `inverse` has as many elements as `data` rows. */
  #taken({ shape: [rows] }: Value, indices: Value, inverse: Value): Value {
    const known = this.#masks.get(indices);
    if (known) return known;
    const zeros = this.#g.op("Reshape", [this.#filled(0, inverse)], { shape: [rows!] });
    const ones = this.#g.op("ScatterElements", [zeros, indices, this.#filled(1, indices)], {
      axis: 0,
      reduction: "add",
    });
    const made = this.#g.op("Reshape", [ones], { shape: [rows!, 1] });
    this.#masks.set(indices, made);
    return made;
  }

  #filled(number: number, like: Value): Value {
    const { shape } = like;
    const sizes = this.#g.op("Shape", [like], { start: 0, end: shape.length });
    return this.#g.op("Expand", [this.#g.number(number), sizes], { shape });
  }
}

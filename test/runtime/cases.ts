/** A random call of every operator: attributes, shapes (empty and broadcast ones among them) and numbers. */
import fc from "fast-check";
import type { DType } from "../../src/graph/graph.ts";
import type { Attributes, OperatorName } from "../../src/graph/operators.ts";
import type { RuntimeTensor } from "../../src/runtime/runtime.ts";

export interface Case<Op extends OperatorName = OperatorName> {
  readonly inputs: readonly RuntimeTensor[];
  readonly attributes: Attributes[Op];
}

/** Draws of one case. */
export class Draw {
  readonly #gen: fc.GeneratorValue;
  constructor(gen: fc.GeneratorValue) {
    this.#gen = gen;
  }

  int(min: number, max: number): number {
    return this.#gen(fc.integer, { min, max });
  }
  pick<T>(options: readonly T[]): T {
    return options[this.int(0, options.length - 1)]!;
  }
  bit(): 0 | 1 {
    return this.pick([0, 1] as const);
  }
  /** 1 to 4, and 0 now and then. */
  size(): number {
    return this.pick([0, 1, 2, 3, 4, 2, 3, 4]);
  }
  dims(min: number, max: number): number[] {
    return Array.from({ length: this.int(min, max) }, () => this.size());
  }
  /** A shape that broadcasts into `dims`: axes set to 1, leading ones left out. */
  narrower(dims: readonly number[]): number[] {
    return dims.map(size => (this.int(0, 3) === 0 ? 1 : size)).slice(this.int(0, dims.length));
  }
  /** Two shapes that broadcast with each other. */
  pair(dims: readonly number[]): [number[], number[]] {
    const narrow = this.narrower(dims);
    const full = dims.map((size, axis) => {
      const at = axis - dims.length + narrow.length;
      return at >= 0 && narrow[at] === size && this.int(0, 4) === 0 ? 1 : size;
    });
    return this.bit() ? [full, narrow] : [narrow, full];
  }
  axis(rank: number): number {
    return this.int(-rank, rank - 1);
  }
  tensor(dims: readonly number[], type: DType = "float32"): RuntimeTensor {
    const length = dims.reduce((product, size) => product * size, 1);
    const numbers = Array.from({ length }, () => this.int(-2000, 2000));
    if (type === "bool") return { type, dims, data: Uint8Array.from(numbers, number => number & 1) };
    if (type === "uint8") return { type, dims, data: Uint8Array.from(numbers, number => number & 255) };
    if (type === "int8") return { type, dims, data: Int8Array.from(numbers, number => number % 128) };
    if (type === "int64") return { type, dims, data: BigInt64Array.from(numbers, BigInt) };
    return { type, dims, data: Float32Array.from(numbers, number => number / 1000) };
  }
  /** Numbers above `least`. */
  above(dims: readonly number[], least: number): RuntimeTensor {
    const { data } = this.tensor(dims);
    return { type: "float32", dims, data: (data as Float32Array).map(number => least + Math.abs(number)) };
  }
  indices(dims: readonly number[], below: number, from = 0): RuntimeTensor {
    const length = dims.reduce((product, size) => product * size, 1);
    const data = BigInt64Array.from({ length }, () => BigInt(this.int(from, below - 1)));
    return { type: "int64", dims, data };
  }
}

const numbers = ["float32", "float32", "int64"] as const;
const anything = ["float32", "int64", "bool"] as const;

const binary = (draw: Draw) => {
  const type = draw.pick(numbers);
  const [a, b] = draw.pair(draw.dims(0, 5));
  return { inputs: [draw.tensor(a, type), draw.tensor(b, type)], attributes: {} };
};

const matrices = (draw: Draw, transA: number, transB: number) => {
  const [left, right] = draw.pair(draw.dims(0, 2));
  const [m, k, n] = [draw.size(), draw.size(), draw.size()];
  const a = [...left, ...(transA ? [k, m] : [m, k])];
  const b = [...right, ...(transB ? [n, k] : [k, n])];
  return [draw.tensor(a), draw.tensor(b)];
};

/** Normalising nothing divides 0 by 0, so the normalised axes are never empty. */
const norm = (draw: Draw, vectors: number) => {
  const lead = draw.dims(0, 2);
  const tail = Array.from({ length: draw.int(1, 2) }, () => draw.int(1, 4));
  const axis = draw.pick([lead.length, -tail.length]);
  const rest = Array.from({ length: vectors }, () => draw.tensor(tail));
  return { inputs: [draw.tensor([...lead, ...tail]), ...rest], attributes: { axis, epsilon: 1e-5 } };
};

const unary = (draw: Draw) => ({ inputs: [draw.tensor(draw.dims(0, 4))], attributes: {} });

const alongAxis = (draw: Draw) => {
  const dims = draw.dims(1, 4);
  return { inputs: [draw.tensor(dims)], attributes: { axis: draw.axis(dims.length) } };
};

const reduction = (draw: Draw) => {
  const dims = draw.dims(1, 4);
  const axes = dims.map((_, axis) => axis).filter(() => draw.bit() === 1);
  return {
    inputs: [draw.tensor(dims)],
    attributes: { axes: axes.length > 0 ? axes : [dims.length - 1], keepdims: 1 as const },
  };
};

/** Nothing has no largest. */
const extreme = (draw: Draw) => {
  const dims = Array.from({ length: draw.int(1, 4) }, () => draw.int(1, 4));
  const axes = dims.map((_, axis) => axis).filter(() => draw.bit() === 1);
  return {
    inputs: [draw.tensor(dims)],
    attributes: { axes: axes.length > 0 ? axes : [dims.length - 1], keepdims: 1 as const },
  };
};

/** Indices of elements along one axis. */
const elements = (draw: Draw) => {
  const dims = Array.from({ length: draw.int(1, 3) }, () => draw.int(1, 4));
  const axis = draw.axis(dims.length);
  const size = dims.at(axis)!;
  const indices = draw.indices(dims.with(axis < 0 ? axis + dims.length : axis, draw.int(1, 3)), size, -size);
  return { data: draw.tensor(dims), indices, axis };
};

export const cases: { readonly [Op in OperatorName]: (draw: Draw) => Case<Op> } = {
  Add: binary,
  Sub: binary,
  Mul: binary,
  Div: draw => {
    const [a, b] = draw.pair(draw.dims(0, 5));
    return { inputs: [draw.tensor(a), draw.above(b, 0.25)], attributes: {} };
  },
  Max: draw => {
    const { inputs } = binary(draw);
    return {
      inputs: draw.int(0, 1) === 1 ? [...inputs, draw.tensor([], inputs[0]!.type)] : inputs,
      attributes: {},
    };
  },
  Exp: unary,
  Sqrt: draw => ({ inputs: [draw.above(draw.dims(0, 4), 0)], attributes: {} }),
  Tanh: unary,
  Erf: unary,
  Where: draw => {
    const type = draw.pick(numbers);
    const dims = draw.dims(0, 4);
    const [a, b] = draw.pair(dims);
    return {
      inputs: [draw.tensor(draw.narrower(dims), "bool"), draw.tensor(a, type), draw.tensor(b, type)],
      attributes: {},
    };
  },
  Gelu: draw => ({
    inputs: [draw.tensor(draw.dims(0, 4))],
    attributes: { approximate: draw.pick(["tanh", "none"] as const) },
  }),
  Sigmoid: unary,
  Softmax: alongAxis,
  LogSoftmax: alongAxis,
  ReduceSum: reduction,
  ReduceSumSquare: reduction,
  ReduceMax: extreme,
  ReduceMin: extreme,
  ArgMax: draw => {
    // Nothing has no largest, and onnxruntime gives the empty answer another (empty) shape.
    const dims = Array.from({ length: draw.int(1, 4) }, () => draw.int(1, 4));
    return { inputs: [draw.tensor(dims)], attributes: { axis: draw.axis(dims.length), keepdims: 1 } };
  },
  MatMul: draw => ({ inputs: matrices(draw, 0, 0), attributes: {} }),
  FusedMatMul: draw => {
    const [transA, transB] = [draw.bit(), draw.bit()];
    return {
      inputs: matrices(draw, transA, transB),
      attributes: { alpha: draw.pick([1, 0.125, -2]), transA, transB },
    };
  },
  Gemm: draw => {
    const transB = draw.bit();
    const [m, k, n] = [draw.size(), draw.size(), draw.size()];
    const inputs = [draw.tensor([m, k]), draw.tensor(transB ? [n, k] : [k, n])];
    if (draw.bit()) inputs.push(draw.tensor(draw.narrower([m, n])));
    return { inputs, attributes: { transB } };
  },
  QuantizeLinear: draw => {
    const dims = draw.dims(1, 3);
    const axis = draw.axis(dims.length);
    const along = [dims.at(axis)!];
    // Powers of two, so that every runtime divides exactly and ties are rounded alike.
    const scale = draw.tensor(along).data as Float32Array;
    return {
      inputs: [
        draw.tensor(dims),
        { type: "float32", dims: along, data: scale.map(() => draw.pick([1 / 128, 1 / 64, 1 / 4])) },
        draw.tensor(along, "uint8"),
      ],
      attributes: { axis },
    };
  },
  MatMulIntegerToFloat: draw => {
    const [m, k, n] = [draw.size(), draw.int(1, 40), draw.int(1, 20)];
    const scalar = draw.above([], 0.01);
    const codes = draw.pick(["int8", "uint8"] as const);
    const drawn = draw.tensor([k, n], codes);
    // Without instructions for products of bytes a larger int8 saturates (src/compile/saturation.ts).
    const b =
      drawn.type === "int8" ? { ...drawn, data: drawn.data.map(value => Math.trunc(value / 2)) } : drawn;
    return {
      inputs: [
        draw.tensor([m, k], "uint8"),
        b,
        scalar,
        draw.above([n], 0.01),
        draw.tensor([], "uint8"),
        ...(codes === "uint8" ? [draw.tensor([], codes)] : []),
      ],
      attributes: {},
    };
  },
  Gather: draw => {
    const dims = draw.dims(1, 3);
    const axis = draw.axis(dims.length);
    const size = dims.at(axis)!;
    // Nothing can be read along an empty axis.
    const where = size === 0 ? [0, ...draw.dims(0, 1)] : draw.dims(0, 2);
    return {
      inputs: [draw.tensor(dims, draw.pick(anything)), draw.indices(where, Math.max(size, 1), -size)],
      attributes: { axis },
    };
  },
  GatherElements: draw => {
    const { data, indices, axis } = elements(draw);
    return { inputs: [data, indices], attributes: { axis } };
  },
  ScatterElements: draw => {
    const { data, indices, axis } = elements(draw);
    return {
      inputs: [data, indices, draw.tensor(indices.dims)],
      attributes: { axis, reduction: "add" },
    };
  },
  Shape: draw => {
    const dims = draw.dims(1, 4);
    const start = draw.int(0, dims.length - 1);
    return {
      inputs: [draw.tensor(dims, draw.pick(anything))],
      attributes: { start, end: draw.int(start + 1, dims.length) },
    };
  },
  Expand: draw => {
    const dims = draw.dims(0, 4);
    const sizes = BigInt64Array.from(dims, BigInt);
    return {
      inputs: [
        draw.tensor(draw.narrower(dims), draw.pick(anything)),
        { type: "int64", dims: [dims.length], data: sizes },
      ],
      attributes: { shape: dims },
    };
  },
  Concat: draw => {
    const dims = draw.dims(1, 4);
    const axis = draw.axis(dims.length);
    const type = draw.pick(anything);
    const parts = Array.from({ length: draw.int(1, 3) }, () =>
      draw.tensor(dims.with(axis, draw.size()), type),
    );
    return { inputs: parts, attributes: { axis } };
  },
  Split: draw => {
    const dims = draw.dims(1, 4);
    const axis = draw.axis(dims.length);
    const sizes = Array.from({ length: draw.int(1, 3) }, () => draw.size());
    const total = sizes.reduce((sum, size) => sum + size, 0);
    const parts: RuntimeTensor = {
      type: "int64",
      dims: [sizes.length],
      data: BigInt64Array.from(sizes, BigInt),
    };
    return {
      inputs: [draw.tensor(dims.with(axis, total), draw.pick(anything)), parts],
      attributes: { axis, sizes },
    };
  },
  Transpose: draw => {
    const dims = draw.dims(1, 5);
    const perm = dims.map((_, axis) => axis);
    for (let i = perm.length - 1; i > 0; i--) {
      const other = draw.int(0, i);
      [perm[i], perm[other]] = [perm[other]!, perm[i]!];
    }
    return { inputs: [draw.tensor(dims, draw.pick(anything))], attributes: { perm } };
  },
  Reshape: draw => {
    const [a, b, c] = [draw.size(), draw.int(1, 4), draw.int(1, 4)];
    const [from, shape] = draw.pick([
      [
        [a, b * c],
        [a, b, c],
      ],
      [
        [a, b, c],
        [a, b * c],
      ],
      [
        [a * b, c],
        [a, b, c],
      ],
      [
        [a, 1, b, c],
        [1, a, b, c, 1],
      ],
    ]) as [number[], number[]];
    return { inputs: [draw.tensor(from, draw.pick(anything))], attributes: { shape } };
  },
  RMSNormalization: draw => norm(draw, 1),
  LayerNormalization: draw => norm(draw, draw.int(1, 2)),
  RotaryEmbedding: draw => {
    const [heads, half, tokens] = [draw.int(1, 3), draw.int(1, 4), draw.size()];
    // onnxruntime refuses a table of fewer rows than there are tokens.
    const positions = draw.int(Math.max(1, tokens), 6);
    return {
      inputs: [
        draw.tensor([1, tokens, heads * half * 2]),
        draw.tensor([positions, half]),
        draw.tensor([positions, half]),
        draw.indices([1, tokens], positions),
      ],
      attributes: { num_heads: heads, interleaved: 0 },
    };
  },
};

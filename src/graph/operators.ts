/**
 * Every operator that a graph may use: its ONNX domain, its attributes, and the rule that gives its outputs' types and
 * shapes or says why its inputs do not fit. Semantics: https://onnx.ai/onnx/operators/ (opset 23) and, for the domain
 * com.microsoft, onnxruntime's ContribOperators.md.
 */
import { add, broadcast, type Dim, multiply, normal, type Shape, showShape } from "./dims.ts";
import type { DType, Value } from "./graph.ts";

export interface Attributes {
  Add: object;
  Sub: object;
  Mul: object;
  Div: object;
  Where: object;
  Max: object;
  Exp: object;
  Sqrt: object;
  Tanh: object;
  Erf: object;
  /** Tanh approximation, as GPT-2 has it. */
  Gelu: { approximate: "tanh" | "none" };
  Sigmoid: object;
  Softmax: { axis: number };
  LogSoftmax: { axis: number };
  /** The axes become 1; the encoder writes them as the tensor that ONNX wants. */
  ReduceSum: { axes: readonly number[]; keepdims: 1 };
  ReduceSumSquare: { axes: readonly number[]; keepdims: 1 };
  ReduceMax: { axes: readonly number[]; keepdims: 1 };
  ReduceMin: { axes: readonly number[]; keepdims: 1 };
  /** Index of the largest, the first of equals, along an axis that becomes 1. */
  ArgMax: { axis: number; keepdims: 1 };
  MatMul: object;
  /** alpha · A · B, the last two axes of either transposed first. */
  FusedMatMul: { alpha: number; transA: 0 | 1; transB: 0 | 1 };
  Gemm: { transB: 0 | 1 };
  /** x / scale, rounded to even, plus the zero point, saturated to 0 … 255; a scale and a zero point an index of `axis`. */
  QuantizeLinear: { axis: number };
  /**
   * (A - zero point of A) · (B - zero point of B) · scale of A · scale of each column of B: A uint8 [m, k], B int8 or
   * uint8 [k, n], whose zero point may be left out where it is 0.
   */
  MatMulIntegerToFloat: object;
  Gather: { axis: number };
  /** Picks along one axis, an index an element. */
  GatherElements: { axis: number };
  /** Adds each update to the element of data that its index names along one axis. */
  ScatterElements: { axis: number; reduction: "add" };
  /** The sizes of axes `start` to `end`, int64. */
  Shape: { start: number; end: number };
  /** Broadcast to the sizes that come as a second input, int64. */
  Expand: { shape: Shape };
  Concat: { axis: number };
  /** Symbolic sizes come at run time as a second input, int64 [parts]. */
  Split: { axis: number; sizes: readonly Dim[] };
  Transpose: { perm: readonly number[] };
  /**
   * The target is the attribute here; the encoder writes it as the shape tensor that ONNX wants. Where more than one
   * size is known to the run alone, that tensor is a second input.
   */
  Reshape: { shape: Shape };
  RMSNormalization: { axis: number; epsilon: number };
  LayerNormalization: { axis: number; epsilon: number };
  /** X [1, tokens, heads·headDim]; cos, sin [positions, headDim/2]; position ids [1, tokens]. Rotates halves. */
  RotaryEmbedding: { num_heads: number; interleaved: 0 };
}

export type OperatorName = keyof Attributes;

interface Output {
  type: DType;
  shape: Shape;
}
type Rule<Op extends OperatorName> = (
  inputs: (Value | null)[],
  attributes: Readonly<Attributes[Op]>,
) => Output[];

export interface Operator<Op extends OperatorName = OperatorName> {
  readonly domain: "" | "com.microsoft";
  /** Least and most inputs. */
  readonly arity: readonly [number, number];
  readonly infer: Rule<Op>;
}

const fail = (why: string): never => {
  throw new Error(why);
};
const at = (inputs: (Value | null)[], index: number): Value =>
  inputs[index] ?? fail(`input ${index} is missing`);
const needs = (condition: boolean, why: () => string) => condition || fail(why());
const axisOf = (axis: number, rank: number): number => {
  const positive = axis < 0 ? axis + rank : axis;
  needs(positive >= 0 && positive < rank, () => `axis ${axis} is outside rank ${rank}`);
  return positive;
};
const sameType = (a: Value, b: Value) => needs(a.type === b.type, () => `${a.type} meets ${b.type}`);
const like = (value: Value): Output[] => [{ type: value.type, shape: value.shape }];
const float = (value: Value) =>
  needs(value.type === "float32", () => `${value.name} is ${value.type}, not float32`);

const joined = (a: Shape, b: Shape): Shape =>
  broadcast(a, b) ?? fail(`${showShape(a)} does not broadcast with ${showShape(b)}`);

const elementwise = (inputs: (Value | null)[]): Output[] => {
  const [first, ...others] = inputs.map((_, i) => at(inputs, i)) as [Value, ...Value[]];
  for (const other of others) sameType(first, other);
  return [
    { type: first.type, shape: others.reduce((shape, other) => joined(shape, other.shape), first.shape) },
  ];
};

const unary = (inputs: (Value | null)[]): Output[] => {
  float(at(inputs, 0));
  return like(at(inputs, 0));
};

function product(a: Value, b: Value, transA: boolean, transB: boolean): Output[] {
  float(a);
  float(b);
  needs(a.shape.length >= 2 && b.shape.length >= 2, () => "a matrix product needs rank 2 or more");
  const [m, ka] = transA ? [a.shape.at(-1)!, a.shape.at(-2)!] : [a.shape.at(-2)!, a.shape.at(-1)!];
  const [kb, n] = transB ? [b.shape.at(-1)!, b.shape.at(-2)!] : [b.shape.at(-2)!, b.shape.at(-1)!];
  needs(ka === kb, () => `inner sizes differ: ${showShape(a.shape)} and ${showShape(b.shape)}`);
  return [{ type: "float32", shape: [...joined(a.shape.slice(0, -2), b.shape.slice(0, -2)), m, n] }];
}

const norm = (inputs: (Value | null)[], { axis }: { axis: number }): Output[] => {
  const [x, scale] = [at(inputs, 0), at(inputs, 1)];
  const tail = x.shape.slice(axisOf(axis, x.shape.length));
  needs(
    showShape(tail) === showShape(scale.shape),
    () => `scale ${showShape(scale.shape)} does not fit ${showShape(x.shape)}`,
  );
  return like(x);
};

const alongAxis = (inputs: (Value | null)[], { axis }: { axis: number }): Output[] => {
  axisOf(axis, at(inputs, 0).shape.length);
  return unary(inputs);
};

const reduced = (inputs: (Value | null)[], { axes }: { axes: readonly number[] }): Output[] => {
  const x = at(inputs, 0);
  float(x);
  const gone = axes.map(axis => axisOf(axis, x.shape.length));
  needs(gone.length > 0, () => "no axis is named");
  return [{ type: x.type, shape: x.shape.map((dim, axis) => (gone.includes(axis) ? 1 : dim)) }];
};

/** Indices that name elements of `data` along one axis, as many along every other as it has. */
function alongOneAxis(data: Value, indices: Value, axis: number): void {
  const where = axisOf(axis, data.shape.length);
  needs(indices.type === "int64", () => "indices must be int64");
  needs(
    indices.shape.length === data.shape.length &&
      indices.shape.every((dim, i) => i === where || dim === data.shape[i]),
    () => `indices ${showShape(indices.shape)} do not go with ${showShape(data.shape)}`,
  );
}

type Five = [Value, Value, Value, Value, Value];

export const operators: { readonly [Op in OperatorName]: Operator<Op> } = {
  Add: { domain: "", arity: [2, 2], infer: elementwise },
  Sub: { domain: "", arity: [2, 2], infer: elementwise },
  Mul: { domain: "", arity: [2, 2], infer: elementwise },
  Div: { domain: "", arity: [2, 2], infer: elementwise },
  Max: { domain: "", arity: [2, 3], infer: elementwise },
  Exp: { domain: "", arity: [1, 1], infer: unary },
  Sqrt: { domain: "", arity: [1, 1], infer: unary },
  Tanh: { domain: "", arity: [1, 1], infer: unary },
  Erf: { domain: "", arity: [1, 1], infer: unary },
  Where: {
    domain: "",
    arity: [3, 3],
    infer: inputs => {
      const [condition, a, b] = [at(inputs, 0), at(inputs, 1), at(inputs, 2)];
      needs(condition.type === "bool", () => "the condition of Where must be bool");
      sameType(a, b);
      return [{ type: a.type, shape: joined(condition.shape, joined(a.shape, b.shape)) }];
    },
  },
  Gelu: { domain: "", arity: [1, 1], infer: unary },
  Sigmoid: { domain: "", arity: [1, 1], infer: unary },
  Softmax: { domain: "", arity: [1, 1], infer: alongAxis },
  LogSoftmax: { domain: "", arity: [1, 1], infer: alongAxis },
  ReduceSum: { domain: "", arity: [1, 1], infer: reduced },
  ReduceSumSquare: { domain: "", arity: [1, 1], infer: reduced },
  ReduceMax: { domain: "", arity: [1, 1], infer: reduced },
  ReduceMin: { domain: "", arity: [1, 1], infer: reduced },
  ArgMax: {
    domain: "",
    arity: [1, 1],
    infer: (inputs, { axis }) => {
      const x = at(inputs, 0);
      float(x);
      return [{ type: "int64", shape: x.shape.with(axisOf(axis, x.shape.length), 1) }];
    },
  },
  MatMul: { domain: "", arity: [2, 2], infer: inputs => product(at(inputs, 0), at(inputs, 1), false, false) },
  FusedMatMul: {
    domain: "com.microsoft",
    arity: [2, 2],
    infer: (inputs, { transA, transB }) => product(at(inputs, 0), at(inputs, 1), transA === 1, transB === 1),
  },
  Gemm: {
    domain: "",
    arity: [2, 3],
    infer: (inputs, { transB }) => {
      const [a, b] = [at(inputs, 0), at(inputs, 1)];
      needs(a.shape.length === 2 && b.shape.length === 2, () => "Gemm takes matrices");
      const out = product(a, b, false, transB === 1);
      const bias = inputs[2];
      if (bias)
        needs(
          showShape(joined(out[0]!.shape, bias.shape)) === showShape(out[0]!.shape),
          () => "bias does not fit",
        );
      return out;
    },
  },
  QuantizeLinear: {
    domain: "",
    arity: [3, 3],
    infer: (inputs, { axis }) => {
      const [x, scale, zero] = [at(inputs, 0), at(inputs, 1), at(inputs, 2)];
      float(x);
      float(scale);
      needs(zero.type === "uint8", () => "the zero point must be uint8");
      const along = [x.shape[axisOf(axis, x.shape.length)]!];
      for (const each of [scale, zero])
        needs(
          showShape(each.shape) === showShape(along),
          () => `${each.name} ${showShape(each.shape)} is not one number an index of axis ${axis}`,
        );
      return [{ type: "uint8", shape: x.shape }];
    },
  },
  MatMulIntegerToFloat: {
    domain: "com.microsoft",
    arity: [5, 6],
    infer: inputs => {
      const [a, b, scaleA, scaleB, zeroA] = [0, 1, 2, 3, 4].map(index => at(inputs, index)) as Five;
      const zeroB = inputs[5] ?? null;
      needs(a.type === "uint8" && zeroA.type === "uint8", () => "A and its zero point must be uint8");
      needs(b.type === "int8" || b.type === "uint8", () => "B must be int8 or uint8");
      needs(
        zeroB === null || (zeroB.type === b.type && zeroB.shape.length === 0),
        () => "the zero point of B must be one number of its type",
      );
      needs(a.shape.length === 2 && b.shape.length === 2, () => "both sides must be matrices");
      needs(
        a.shape[1] === b.shape[0],
        () => `inner sizes differ: ${showShape(a.shape)} and ${showShape(b.shape)}`,
      );
      needs(
        scaleA.shape.length === 0 && zeroA.shape.length === 0,
        () => "A has one scale and one zero point",
      );
      needs(showShape(scaleB.shape) === showShape([b.shape[1]!]), () => "B has a scale a column");
      return [{ type: "float32", shape: [a.shape[0]!, b.shape[1]!] }];
    },
  },
  Gather: {
    domain: "",
    arity: [2, 2],
    infer: (inputs, { axis }) => {
      const [data, indices] = [at(inputs, 0), at(inputs, 1)];
      const where = axisOf(axis, data.shape.length);
      needs(indices.type === "int64", () => "indices must be int64");
      return [
        {
          type: data.type,
          shape: [...data.shape.slice(0, where), ...indices.shape, ...data.shape.slice(where + 1)],
        },
      ];
    },
  },
  GatherElements: {
    domain: "",
    arity: [2, 2],
    infer: (inputs, { axis }) => {
      const [data, indices] = [at(inputs, 0), at(inputs, 1)];
      alongOneAxis(data, indices, axis);
      return [{ type: data.type, shape: indices.shape }];
    },
  },
  ScatterElements: {
    domain: "",
    arity: [3, 3],
    infer: (inputs, { axis }) => {
      const [data, indices, updates] = [at(inputs, 0), at(inputs, 1), at(inputs, 2)];
      float(data);
      float(updates);
      alongOneAxis(data, indices, axis);
      needs(
        showShape(updates.shape) === showShape(indices.shape),
        () => `updates ${showShape(updates.shape)} are not as many as indices ${showShape(indices.shape)}`,
      );
      return like(data);
    },
  },
  Shape: {
    domain: "",
    arity: [1, 1],
    infer: (inputs, { start, end }) => {
      const rank = at(inputs, 0).shape.length;
      needs(
        start >= 0 && start < end && end <= rank,
        () => `axes ${start} to ${end} are not in rank ${rank}`,
      );
      return [{ type: "int64", shape: [end - start] }];
    },
  },
  Expand: {
    domain: "",
    arity: [2, 2],
    infer: (inputs, { shape }) => {
      const [x, sizes] = [at(inputs, 0), at(inputs, 1)];
      needs(sizes.type === "int64", () => "sizes must be int64");
      const target = shape.map(normal);
      needs(
        showShape(joined(x.shape, target)) === showShape(target),
        () => `${showShape(x.shape)} does not expand to ${showShape(target)}`,
      );
      return [{ type: x.type, shape: target }];
    },
  },
  Concat: {
    domain: "",
    arity: [1, 64],
    infer: (inputs, { axis }) => {
      const first = at(inputs, 0);
      const where = axisOf(axis, first.shape.length);
      let total: Dim = 0;
      for (let index = 0; index < inputs.length; index++) {
        const value = at(inputs, index);
        sameType(first, value);
        const fits =
          value.shape.length === first.shape.length &&
          value.shape.every((dim, i) => i === where || dim === first.shape[i]);
        needs(
          fits,
          () => `${showShape(value.shape)} does not join ${showShape(first.shape)} along axis ${where}`,
        );
        total = add(total, value.shape[where]!);
      }
      return [{ type: first.type, shape: first.shape.with(where, total) }];
    },
  },
  Split: {
    domain: "",
    arity: [1, 2],
    infer: (inputs, { axis, sizes }) => {
      const x = at(inputs, 0);
      const where = axisOf(axis, x.shape.length);
      const total = sizes.reduce<Dim>(add, 0);
      needs(total === x.shape[where], () => `parts ${sizes.join(", ")} do not add up to ${x.shape[where]}`);
      const known = sizes.every(size => typeof size === "number");
      needs(known || inputs[1]?.type === "int64", () => "symbolic parts need their sizes as an int64 input");
      return sizes.map(size => ({ type: x.type, shape: x.shape.with(where, size) }));
    },
  },
  Transpose: {
    domain: "",
    arity: [1, 1],
    infer: (inputs, { perm }) => {
      const x = at(inputs, 0);
      const complete = perm.length === x.shape.length && new Set(perm).size === perm.length;
      needs(complete, () => `perm ${perm.join(",")} is no permutation of rank ${x.shape.length}`);
      return [{ type: x.type, shape: perm.map(axis => x.shape[axis] ?? fail(`axis ${axis} is outside`)) }];
    },
  },
  Reshape: {
    domain: "",
    arity: [1, 2],
    infer: (inputs, { shape }) => {
      if (inputs[1]) sameCount(at(inputs, 0).shape, shape);
      else reshapeTarget(at(inputs, 0).shape, shape);
      return [{ type: at(inputs, 0).type, shape: shape.map(normal) }];
    },
  },
  RMSNormalization: { domain: "", arity: [2, 2], infer: norm },
  LayerNormalization: { domain: "", arity: [2, 3], infer: norm },
  RotaryEmbedding: {
    domain: "",
    arity: [4, 4],
    infer: (inputs, { num_heads }) => {
      const [x, cos, sin, positions] = [at(inputs, 0), at(inputs, 1), at(inputs, 2), at(inputs, 3)];
      const width = x.shape.at(-1);
      needs(
        x.shape.length === 3 && typeof width === "number",
        () => `X must be [1, tokens, width], not ${showShape(x.shape)}`,
      );
      needs(
        cos.shape[1] === (width as number) / num_heads / 2,
        () => `cos ${showShape(cos.shape)} is no half head of ${width}/${num_heads}`,
      );
      needs(showShape(cos.shape) === showShape(sin.shape), () => "cos and sin differ in shape");
      needs(showShape(positions.shape) === showShape(x.shape.slice(0, 2)), () => "position ids do not fit X");
      return like(x);
    },
  },
};

/**
 * The shape tensor of a reshape: sizes, 0 where the input's size at the same axis is kept, and at most one -1.
 * Throws when the element counts differ or more than one size would have to be found out at run time.
 */
export function reshapeTarget(from: Shape, to: Shape): number[] {
  sameCount(from, to);
  const target = to
    .map(normal)
    .map((dim, axis) => (typeof dim === "number" ? dim : dim === from[axis] ? 0 : -1));
  needs(
    target.filter(dim => dim === -1).length <= 1,
    () => `${showShape(from)} to ${showShape(to)} has more than one unknown size`,
  );
  return target;
}

const sameCount = (from: Shape, to: Shape) =>
  needs(
    multiply(...from) === multiply(...to),
    () => `${showShape(from)} has not as many elements as ${showShape(to)}`,
  );

/**
 * Every operator of src/graph/operators.ts in TensorFlow.js: a row each. A row sees concrete shapes that the operator's
 * rule has already accepted, and at least one non-empty output: the session makes empty ones itself. What it leaves
 * behind besides its results is freed by the session.
 */
import type * as tfjs from "@tensorflow/tfjs-core";
import type { Attributes, OperatorName } from "../graph/operators.ts";
import { elementCount } from "../tensor/tensor.ts";
import { readIndices } from "./tfjs-tensor.ts";

export type TensorFlow = typeof tfjs;
export type Tensor = tfjs.Tensor;

/** Attributes with the sizes of this run in place of symbolic ones. */
export type Concrete<Op extends OperatorName> = Op extends "Reshape"
  ? { shape: readonly number[] }
  : Op extends "Expand"
    ? { shape: readonly number[] }
    : Op extends "Split"
      ? { axis: number; sizes: readonly number[] }
      : Readonly<Attributes[Op]>;

/** Absent optional inputs are undefined, and come last. */
type Kernel<Op extends OperatorName> = (
  tf: TensorFlow,
  inputs: Tensor[],
  attributes: Concrete<Op>,
) => Tensor | Tensor[];

const positive = (axis: number, rank: number): number => (axis < 0 ? axis + rank : axis);
const positives = (axes: readonly number[], x: Tensor) => axes.map(axis => positive(axis, x.rank));
const joined = (a: readonly number[], b: readonly number[]): number[] =>
  Array.from({ length: Math.max(a.length, b.length) }, (_, fromEnd) => {
    const [x, y] = [a.at(-1 - fromEnd) ?? 1, b.at(-1 - fromEnd) ?? 1];
    return x === 1 ? y : x;
  }).reverse();
const stretch = (tf: TensorFlow, x: Tensor, shape: number[]) =>
  x.shape.join() === shape.join() ? x : tf.broadcastTo(x, shape);

/** wasm and cpu (4.22) multiply the wrong matrices where an inner batch axis is broadcast, so none reaches them. */
function product(tf: TensorFlow, a: Tensor, b: Tensor, transA: boolean, transB: boolean): Tensor {
  const [m, k] = transA ? [a.shape.at(-1)!, a.shape.at(-2)!] : [a.shape.at(-2)!, a.shape.at(-1)!];
  const n = transB ? b.shape.at(-2)! : b.shape.at(-1)!;
  const [batchA, batchB] = [a.shape.slice(0, -2), b.shape.slice(0, -2)];
  const batch = joined(batchA, batchB);
  if (k === 0) return tf.zeros([...batch, m, n]);
  if (elementCount(batchB) === 1 && !transA) {
    // One matrix for all: a single product over every row of A.
    const matrix = tf.reshape(b, b.shape.slice(-2));
    return tf.reshape(tf.matMul(tf.reshape(a, [-1, k]), matrix, false, transB), [...batch, m, n]);
  }
  if (batchA.length > 1 && batchA.length === batchB.length && batchB.at(-1) === 1 && !transA) {
    // One matrix for a group: a product over every row of the group's, which also keeps to four axes.
    const rows = [...batchA.slice(0, -1), batchA.at(-1)! * m, k];
    const alone = tf.reshape(b, [...batchB.slice(0, -1), ...b.shape.slice(-2)]);
    return tf.reshape(product(tf, tf.reshape(a, rows), alone, false, transB), [...batch, m, n]);
  }
  const flat = (x: Tensor) =>
    tf.reshape(stretch(tf, x, [...batch, ...x.shape.slice(-2)]), [-1, ...x.shape.slice(-2)]);
  return tf.reshape(tf.matMul(flat(a), flat(b), transA, transB), [...batch, m, n]);
}

const scaled = (tf: TensorFlow, x: Tensor, alpha: number) => (alpha === 1 ? x : tf.mul(x, alpha));

function gather(tf: TensorFlow, data: Tensor, indices: Tensor, axis: number): Tensor {
  const where = positive(axis, data.rank);
  const size = data.shape[where]!;
  // Checked here because backends answer an index outside with zeros, with NaN or with whatever lies there.
  const checked = readIndices(indices, size);
  const flat = tf.gather(data, tf.tensor1d(checked, "int32"), where);
  return tf.reshape(flat, [...data.shape.slice(0, where), ...indices.shape, ...data.shape.slice(where + 1)]);
}

const tailAxes = (x: Tensor, axis: number) =>
  Array.from({ length: x.rank - positive(axis, x.rank) }, (_, i) => positive(axis, x.rank) + i);

/** x / sqrt(mean(x²) + epsilon) over the last axes. */
function unitMeanSquare(tf: TensorFlow, x: Tensor, axes: number[], epsilon: number): Tensor {
  return tf.mul(x, tf.rsqrt(tf.add(tf.mean(tf.square(x), axes, true), epsilon)));
}

/** Where in the flat data each index points: the strides of both shapes differ along one axis alone. */
function placesAlong(data: Tensor, indices: Tensor, axis: number): Int32Array {
  const where = positive(axis, data.rank);
  const inner = elementCount(data.shape.slice(where + 1));
  const outer = indices.shape[where]! * inner;
  return readIndices(indices, data.shape[where]!).map((index, at) => {
    const before = Math.floor(at / outer) * data.shape[where]!;
    return (before + index) * inner + (at % inner);
  });
}

/** The axes become 1; nothing sums to 0, which not every backend knows. */
function sumOver(tf: TensorFlow, x: Tensor, axes: readonly number[]): Tensor {
  const gone = positives(axes, x);
  if (x.size > 0) return tf.sum(x, gone, true);
  return tf.zeros(x.shape.map((size, axis) => (gone.includes(axis) ? 1 : size)));
}

/** For what TensorFlow.js has over the last axis alone. */
function alongLast(tf: TensorFlow, x: Tensor, axis: number, f: (x: Tensor) => Tensor): Tensor {
  const [where, last] = [positive(axis, x.rank), x.rank - 1];
  if (where === last) return f(x);
  const swap = x.shape.map((_, i) => (i === where ? last : i === last ? where : i));
  return tf.transpose(f(tf.transpose(x, swap)), swap);
}

export const tfjsOperators: { readonly [Op in OperatorName]: Kernel<Op> } = {
  Add: (tf, [a, b]) => tf.add(a!, b!),
  Sub: (tf, [a, b]) => tf.sub(a!, b!),
  Mul: (tf, [a, b]) => tf.mul(a!, b!),
  Div: (tf, [a, b]) => tf.div(a!, b!),
  Max: (tf, [a, b, c]) => (c ? tf.maximum(tf.maximum(a!, b!), c) : tf.maximum(a!, b!)),
  Exp: (tf, [x]) => tf.exp(x!),
  Sqrt: (tf, [x]) => tf.sqrt(x!),
  Tanh: (tf, [x]) => tf.tanh(x!),
  Erf: (tf, [x]) => tf.erf(x!),
  Where: (tf, [condition, a, b]) => tf.where(condition!, a!, b!),
  Gelu: (tf, [x], { approximate }) => {
    const inner =
      approximate === "tanh"
        ? tf.tanh(tf.mul(tf.add(x!, tf.mul(tf.mul(tf.square(x!), x!), 0.044715)), Math.sqrt(2 / Math.PI)))
        : tf.erf(tf.mul(x!, Math.SQRT1_2));
    return tf.mul(tf.mul(x!, 0.5), tf.add(inner, 1));
  },
  Sigmoid: (tf, [x]) => tf.sigmoid(x!),
  Softmax: (tf, [x], { axis }) => alongLast(tf, x!, axis, tf.softmax),
  LogSoftmax: (tf, [x], { axis }) => alongLast(tf, x!, axis, tf.logSoftmax),
  ReduceSum: (tf, [x], { axes }) => sumOver(tf, x!, axes),
  ReduceSumSquare: (tf, [x], { axes }) => sumOver(tf, tf.square(x!), axes),
  ReduceMax: (tf, [x], { axes }) => tf.max(x!, positives(axes, x!), true),
  ReduceMin: (tf, [x], { axes }) => tf.min(x!, positives(axes, x!), true),
  ArgMax: (tf, [x], { axis }) =>
    tf.expandDims(tf.argMax(x!, positive(axis, x!.rank)), positive(axis, x!.rank)),
  MatMul: (tf, [a, b]) => product(tf, a!, b!, false, false),
  FusedMatMul: (tf, [a, b], { alpha, transA, transB }) =>
    product(tf, scaled(tf, a!, alpha), b!, transA === 1, transB === 1),
  Gemm: (tf, [a, b, bias], { transB }) => {
    const out = product(tf, a!, b!, false, transB === 1);
    return bias ? tf.add(out, bias) : out;
  },
  QuantizeLinear: (tf, [x, scale, zero], { axis }) => {
    const shape = x!.shape.map((size, i) => (i === positive(axis, x!.rank) ? size : 1));
    const [by, from] = [tf.reshape(scale!, shape), tf.cast(tf.reshape(zero!, shape), "float32")];
    return tf.cast(tf.clipByValue(tf.add(tf.round(tf.div(x!, by)), from), 0, 255), "int32");
  },
  MatMulIntegerToFloat: (tf, [a, b, scaleA, scaleB, zeroA, zeroB]) => {
    const left = tf.cast(tf.sub(a!, zeroA!), "float32");
    const right = tf.cast(zeroB ? tf.sub(b!, zeroB) : b!, "float32");
    return tf.mul(product(tf, left, right, false, false), tf.mul(scaleA!, scaleB!));
  },
  Gather: (tf, [data, indices], { axis }) => gather(tf, data!, indices!, axis),
  GatherElements: (tf, [data, indices], { axis }) => {
    const places = tf.tensor1d(placesAlong(data!, indices!, axis), "int32");
    return tf.reshape(tf.gather(tf.reshape(data!, [-1]), places), indices!.shape);
  },
  ScatterElements: (tf, [data, indices, updates], { axis }) => {
    const places = placesAlong(data!, indices!, axis);
    const sums = tf.scatterND(tf.tensor2d(places, [places.length, 1], "int32"), tf.reshape(updates!, [-1]), [
      data!.size,
    ]);
    return tf.add(data!, tf.reshape(sums, data!.shape));
  },
  Shape: (tf, [x], { start, end }) => tf.tensor1d(x!.shape.slice(start, end), "int32"),
  Expand: (tf, [x, sizes]) => tf.broadcastTo(x!, [...sizes!.dataSync()]),
  Concat: (tf, inputs, { axis }) => {
    const full = inputs.filter(part => part.size > 0);
    return full.length === 1 ? tf.clone(full[0]!) : tf.concat(full, positive(axis, full[0]!.rank));
  },
  Split: (tf, [x], { axis, sizes }) => {
    const where = positive(axis, x!.rank);
    let begin = 0;
    return sizes.map(size => {
      const shape = x!.shape.with(where, size);
      const start = x!.shape.map((_, i) => (i === where ? begin : 0));
      begin += size;
      return size === 0 ? tf.zeros(shape, x!.dtype) : tf.slice(x!, start, shape);
    });
  },
  Transpose: (tf, [x], { perm }) => tf.transpose(x!, [...perm]),
  Reshape: (tf, [x], { shape }) => tf.reshape(x!, [...shape]),
  RMSNormalization: (tf, [x, scale], { axis, epsilon }) =>
    tf.mul(unitMeanSquare(tf, x!, tailAxes(x!, axis), epsilon), scale!),
  LayerNormalization: (tf, [x, scale, bias], { axis, epsilon }) => {
    const axes = tailAxes(x!, axis);
    const centred = tf.sub(x!, tf.mean(x!, axes, true));
    const out = tf.mul(unitMeanSquare(tf, centred, axes, epsilon), scale!);
    return bias ? tf.add(out, bias) : out;
  },
  RotaryEmbedding: (tf, [x, cos, sin, positions], { num_heads }) => {
    const [batch, tokens, width] = x!.shape as [number, number, number];
    const half = width / num_heads / 2;
    const heads = tf.reshape(x!, [batch, tokens, num_heads, 2 * half]);
    const at = (table: Tensor) => tf.reshape(gather(tf, table, positions!, 0), [batch, tokens, 1, half]);
    const [c, s] = [at(cos!), at(sin!)];
    const low = tf.slice(heads, [0, 0, 0, 0], [batch, tokens, num_heads, half]);
    const high = tf.slice(heads, [0, 0, 0, half], [batch, tokens, num_heads, half]);
    const turned = tf.concat(
      [tf.sub(tf.mul(low, c), tf.mul(high, s)), tf.add(tf.mul(high, c), tf.mul(low, s))],
      3,
    );
    return tf.reshape(turned, x!.shape);
  },
};

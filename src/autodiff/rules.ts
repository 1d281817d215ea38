/**
 * One row an operator: from the cotangents of its outputs (null where nothing depends on one) to those of its inputs
 * (null where none is wanted). A text in place of a rule says why there is none.
 */
import type { GraphBuilder } from "../graph/builder.ts";
import { type Dim, multiply } from "../graph/dims.ts";
import type { NodeOf, Value } from "../graph/graph.ts";
import type { OperatorName } from "../graph/operators.ts";
import { reshapeAs, sumTo } from "./broadcast.ts";
import { layerNorm, rmsNorm } from "./norms.ts";
import { gemm, product } from "./products.ts";

export type Rule<Op extends OperatorName> = (
  g: GraphBuilder,
  node: NodeOf<Op>,
  cotangents: readonly (Value | null)[],
  wants: readonly boolean[],
) => readonly (Value | null)[];

const mul = (g: GraphBuilder, a: Value, b: Value) => g.op("Mul", [a, b], {});
const scale = (g: GraphBuilder, x: Value, by: number) => mul(g, x, g.number(by));
const plus = (g: GraphBuilder, x: Value, number: number) => g.op("Add", [x, g.number(number)], {});
const sumLast = (g: GraphBuilder, x: Value, axis: number) =>
  g.op("ReduceSum", [x], { axes: [axis], keepdims: 1 });

/** `x` repeated to the shape of `like`, whose numbers are finite. */
const repeat = (g: GraphBuilder, x: Value, like: Value) => g.op("Add", [scale(g, like, 0), x], {});

/** The sizes along `axis`, int64 [values]. */
function sizesAlong(g: GraphBuilder, values: readonly Value[], axis: number): Value {
  const where = axis < 0 ? axis + values[0]!.shape.length : axis;
  const each = values.map(value => g.op("Shape", [value], { start: where, end: where + 1 }));
  return g.op("Concat", each, { axis: 0 });
}

function geluTanh(g: GraphBuilder, x: Value): Value {
  // y = x/2 (1 + t) with t = tanh(c (x + k x³)): dy = (1 + t)/2 + x/2 (1 - t²) c (1 + 3 k x²)
  const [c, k] = [Math.sqrt(2 / Math.PI), 0.044715];
  const square = mul(g, x, x);
  const inner = mul(g, scale(g, x, c), plus(g, scale(g, square, k), 1));
  const t = g.op("Tanh", [inner], {});
  const slope = scale(g, plus(g, scale(g, square, 3 * k), 1), c);
  const steep = mul(g, mul(g, x, slope), plus(g, scale(g, mul(g, t, t), -1), 1));
  return scale(g, g.op("Add", [plus(g, t, 1), steep], {}), 0.5);
}

function geluErf(g: GraphBuilder, x: Value): Value {
  // y = x Φ(x): dy = Φ(x) + x φ(x)
  const cumulative = scale(g, plus(g, g.op("Erf", [scale(g, x, Math.SQRT1_2)], {}), 1), 0.5);
  const density = scale(g, g.op("Exp", [scale(g, mul(g, x, x), -0.5)], {}), 1 / Math.sqrt(2 * Math.PI));
  return g.op("Add", [cumulative, mul(g, x, density)], {});
}

/** A rule of one input and one output, from its cotangent, its input and its output. */
const unary =
  <Op extends OperatorName>(
    derive: (g: GraphBuilder, d: Value, x: Value, y: Value, node: NodeOf<Op>) => Value,
  ): Rule<Op> =>
  (g, node, [d]) => [derive(g, d!, node.inputs[0]!, node.outputs[0]!, node)];

/** A rule of two inputs that broadcast: the cotangent of each before it is summed to its shape. */
const binary =
  <Op extends OperatorName>(
    left: (g: GraphBuilder, d: Value, a: Value, b: Value) => Value,
    right: (g: GraphBuilder, d: Value, a: Value, b: Value, y: Value) => Value,
  ): Rule<Op> =>
  (g, { inputs, outputs }, [d], wants) => {
    const [a, b] = [inputs[0]!, inputs[1]!];
    return [
      wants[0] ? sumTo(g, left(g, d!, a, b), a) : null,
      wants[1] ? sumTo(g, right(g, d!, a, b, outputs[0]!), b) : null,
    ];
  };

const discrete = "its output is no smooth function of its input";
const quantising = "it serves quantisation, which is put into a graph after its gradient";
const backward = "it only occurs in gradients, and those of gradients are not needed";

export const rules: { readonly [Op in OperatorName]: Rule<Op> | string } = {
  Add: binary(
    (_, d) => d,
    (_, d) => d,
  ),
  Sub: binary(
    (_, d) => d,
    (g, d) => scale(g, d, -1),
  ),
  Mul: binary(
    (g, d, _a, b) => mul(g, d, b),
    (g, d, a) => mul(g, d, a),
  ),
  Div: binary(
    (g, d, _a, b) => g.op("Div", [d, b], {}),
    (g, d, _a, b, y) => scale(g, mul(g, d, g.op("Div", [y, b], {})), -1),
  ),
  Where: (g, { inputs }, [d], wants) => {
    const [condition, a, b] = [inputs[0]!, inputs[1]!, inputs[2]!];
    const zero = g.number(0);
    return [
      null,
      wants[1] ? sumTo(g, g.op("Where", [condition, d!, zero], {}), a) : null,
      wants[2] ? sumTo(g, g.op("Where", [condition, zero, d!], {}), b) : null,
    ];
  },
  Max: quantising,
  Exp: unary((g, d, _x, y) => mul(g, d, y)),
  Sqrt: unary((g, d, _x, y) => scale(g, g.op("Div", [d, y], {}), 0.5)),
  Tanh: unary((g, d, _x, y) => g.op("Sub", [d, mul(g, d, mul(g, y, y))], {})),
  Erf: unary((g, d, x) =>
    scale(g, mul(g, d, g.op("Exp", [scale(g, mul(g, x, x), -1)], {})), 2 / Math.sqrt(Math.PI)),
  ),
  /** y (1 - y) */
  Sigmoid: unary((g, d, _x, y) => mul(g, d, g.op("Sub", [y, mul(g, y, y)], {}))),
  Gelu: unary<"Gelu">((g, d, x, _y, { attributes }) =>
    mul(g, d, attributes.approximate === "tanh" ? geluTanh(g, x) : geluErf(g, x)),
  ),
  /** y (d - Σ y d) */
  Softmax: unary<"Softmax">((g, d, _x, y, { attributes }) => {
    const weighted = mul(g, y, d);
    return g.op("Sub", [weighted, mul(g, y, sumLast(g, weighted, attributes.axis))], {});
  }),
  /** d - exp(y) Σ d */
  LogSoftmax: unary<"LogSoftmax">((g, d, _x, y, { attributes }) =>
    g.op("Sub", [d, mul(g, g.op("Exp", [y], {}), sumLast(g, d, attributes.axis))], {}),
  ),
  ReduceSum: unary((g, d, x) => repeat(g, d, x)),
  ReduceSumSquare: unary((g, d, x) => mul(g, scale(g, d, 2), x)),
  ReduceMax: quantising,
  ReduceMin: quantising,
  ArgMax: discrete,
  MatMul: (g, node, [d], wants) =>
    product(g, node.inputs[0]!, node.inputs[1]!, d!, { alpha: 1, transA: 0, transB: 0 }, wants),
  FusedMatMul: (g, node, [d], wants) =>
    product(g, node.inputs[0]!, node.inputs[1]!, d!, node.attributes, wants),
  Gemm: (g, node, [d], wants) => gemm(g, node, d!, wants),
  QuantizeLinear: quantising,
  MatMulIntegerToFloat: quantising,
  /** The cotangent's rows are added up where they were taken from. */
  Gather: (g, { inputs, attributes }, [d]) => {
    const [data, indices] = [inputs[0]!, inputs[1]!];
    if (attributes.axis !== 0) throw new Error("only a gather of rows (axis 0) can be differentiated");
    const width = multiply(...data.shape.slice(1));
    if (typeof width !== "number") throw new Error("the sizes behind the first must be known");
    const flat = (x: Value, rows: Dim) => g.op("Reshape", [x], { shape: [rows, width] });
    const count = multiply(...indices.shape);
    // ScatterND is faster, but onnxruntime's adds without a lock: rows taken twice come out wrong on several threads.
    const columns = g.constant("columns", "int64", [1, width], new BigInt64Array(width));
    const places = g.op("Add", [g.op("Reshape", [indices], { shape: [count, 1] }), columns], {});
    const sums = g.op("ScatterElements", [scale(g, flat(data, data.shape[0]!), 0), places, flat(d!, count)], {
      axis: 0,
      reduction: "add",
    });
    return [reshapeAs(g, sums, data), null];
  },
  GatherElements: (g, { inputs, attributes: { axis } }, [d]) => {
    const [data, indices] = [inputs[0]!, inputs[1]!];
    const zeros = scale(g, data, 0);
    return [g.op("ScatterElements", [zeros, indices, d!], { axis, reduction: "add" }), null];
  },
  ScatterElements: backward,
  Shape: discrete,
  Expand: quantising,
  Concat: (g, { inputs, attributes: { axis } }, [d]) => {
    const sizes = inputs.map(input => input!.shape.at(axis)!);
    const known = sizes.every(size => typeof size === "number");
    return g.ops("Split", known ? [d!] : [d!, sizesAlong(g, inputs as Value[], axis)], { axis, sizes });
  },
  Split: (g, { outputs, attributes: { axis } }, cotangents) => [
    g.op(
      "Concat",
      outputs.map((output, index) => cotangents[index] ?? scale(g, output, 0)),
      { axis },
    ),
  ],
  Transpose: unary<"Transpose">((g, d, _x, _y, { attributes: { perm } }) =>
    g.op("Transpose", [d], { perm: perm.map((_, axis) => perm.indexOf(axis)) }),
  ),
  Reshape: (g, { inputs }, [d]) => [reshapeAs(g, d!, inputs[0]!), null],
  RMSNormalization: rmsNorm,
  LayerNormalization: layerNorm,
  /** A rotation back: the same operator with the sines negated (Su et al. 2021). */
  RotaryEmbedding: (g, { inputs, attributes }, [d]) => {
    const [, cos, sin, positions] = inputs as Value[];
    return [
      g.op("RotaryEmbedding", [d!, cos!, scale(g, sin!, -1), positions!], attributes),
      null,
      null,
      null,
    ];
  },
};

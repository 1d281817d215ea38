/**
 * Products with frozen weights in 8 bits: activations are quantised as they come, a scale a row, so that a row's result
 * does not depend on the other rows; weights once, a scale for each of their output channels (W8A8, Dettmers et al. 2022
 * without its outliers, which smoothing has moved into the weights: src/compile/smooth.ts).
 *
 * The same rewriting serves a step and its gradient: a backward product is a Gemm with the same weight, turned around,
 * which needs codes of its own, since its output channels are the other axis.
 *
 * Weights' codes are int8, or uint8 around 128 where products of uint8 and int8 saturate (src/compile/saturation.ts).
 */
import type { GraphBuilder } from "./builder.ts";
import type { Graph, Value, Weight } from "./graph.ts";
import { rewrite } from "./rewrite.ts";

/** Largest code: 7 bits and a sign. */
export const CODES = 127;
/** The code of 0 in a uint8. */
export const ZERO_POINT = 128;
/** Taken for the largest absolute value of a row of zeros, so that it divides by something. */
const LEAST = 1e-30;

export type CodeType = "int8" | "uint8";

/**
 * Names of a weight's codes, [in, out] of the product, of their scales, float32 [out], and of what the activation is
 * divided by first, float32 [in], where smoothing could not fold it.
 */
export const codesOf = (weight: string, transposed: boolean) => {
  const codes = `${weight}.int8${transposed ? ".transposed" : ""}`;
  return { codes, scales: `${codes}.scale`, divisors: `${codes}.divisor` };
};

/** The largest absolute value along an axis, which stays as 1, or `LEAST`. */
export function largestAbsolute(g: GraphBuilder, x: Value, axis: number): Value {
  const over = { axes: [axis], keepdims: 1 } as const;
  // Two reductions read x twice; its absolute values would be written once more.
  const below = g.op("Mul", [g.op("ReduceMin", [x], over), g.number(-1)], {});
  return g.op("Max", [g.op("ReduceMax", [x], over), below, g.number(LEAST)], {});
}

/** How a product with a weight is quantised; null leaves it as it is. */
export type Coding = { divided: boolean } | null;

/** The graph with int8 products in place of the Gemms whose right side is a weight that `coding` wants so. */
export function quantise(
  graph: Graph,
  coding: (weight: string, transposed: boolean) => Coding,
  type: CodeType = "int8",
): Graph {
  const weights = new Map<Value, Weight>(graph.weights.map(weight => [weight, weight]));
  const rows = new Map<Value, { codes: Value; scale: Value }>();
  const zeros = new Map<unknown, Value>();
  let zero: Value | null = null;

  /** The rows of x in codes, made once for all products that read them. */
  const quantised = (g: GraphBuilder, x: Value) => {
    const known = rows.get(x);
    if (known) return known;
    zero ??= g.constant("zero_point", "uint8", [], Uint8Array.of(ZERO_POINT));
    const [count] = x.shape;
    const scale = g.op("Mul", [largestAbsolute(g, x, 1), g.number(1 / CODES)], {}, "row_scale");
    const flat = g.op("Reshape", [scale], { shape: [count!] });
    const from =
      zeros.get(count) ??
      g.op("Expand", [zero, g.op("Shape", [flat], { start: 0, end: 1 })], { shape: [count!] }, "zero_points");
    zeros.set(count, from);
    const made = { codes: g.op("QuantizeLinear", [x, flat, from], { axis: 0 }, "codes"), scale };
    rows.set(x, made);
    return made;
  };

  return rewrite(graph, (g, node) => {
    if (node.op !== "Gemm") return null;
    const [x, b, bias] = node.inputs as [Value, Value, Value?];
    const weight = weights.get(b);
    const transposed = node.attributes.transB === 1;
    const coded = weight ? coding(weight.name, transposed) : null;
    if (!weight || !coded) return null;
    const [first, second] = weight.shape as [number, number];
    const [from, into] = transposed ? [second, first] : [first, second];
    const names = codesOf(weight.name, transposed);
    const read = coded.divided ? g.op("Div", [x, g.weight(names.divisors, [from])], {}) : x;
    const { codes, scale } = quantised(g, read);
    const whole = g.op(
      "MatMulIntegerToFloat",
      [
        codes,
        g.weight(names.codes, [from, into], type),
        g.number(1),
        g.weight(names.scales, [into]),
        zero,
        ...(type === "uint8" ? [zero] : []),
      ],
      {},
      "product",
    );
    const out = g.op("Mul", [whole, scale], {});
    return [bias ? g.op("Add", [out, bias], {}) : out];
  });
}

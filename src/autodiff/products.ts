/** Matrix products: each gradient is again one product, with the other factor transposed where it was not. */
import type { GraphBuilder } from "../graph/builder.ts";
import { type Dim, multiply } from "../graph/dims.ts";
import type { NodeOf, Value } from "../graph/graph.ts";
import type { Attributes } from "../graph/operators.ts";
import { reshape } from "../graph/reshape.ts";
import { reshapeAs, sumTo } from "./broadcast.ts";

type Wants = readonly boolean[];

/** C = α op(A) op(B), batch axes broadcast: dA = α dC op(B)ᵀ and dB = α op(A)ᵀ dC, transposed back. */
export function product(
  g: GraphBuilder,
  a: Value,
  b: Value,
  d: Value,
  { alpha, transA, transB }: Attributes["FusedMatMul"],
  wants: Wants,
): (Value | null)[] {
  if (!transA && b.shape.at(-3) === 1 && a.shape.length === b.shape.length && a.shape.at(-3) !== 1) {
    const attributes = { alpha, transA, transB } as const;
    const stacked = product(g, stack(g, a), stack(g, b), stack(g, d), attributes, wants);
    return stacked.map((found, index) => found && reshapeAs(g, found, [a, b][index]!));
  }
  const not = (flag: 0 | 1): 0 | 1 => (flag ? 0 : 1);
  const times = (x: Value, y: Value, transX: 0 | 1, transY: 0 | 1) =>
    g.op("FusedMatMul", [x, y], { alpha, transA: transX, transB: transY });
  return [
    wants[0] ? sumTo(g, transA ? times(b, d, transB, 1) : times(d, b, 0, not(transB)), a) : null,
    wants[1] ? sumTo(g, transB ? times(d, a, 1, transA) : times(a, d, not(transA), 0), b) : null,
  ];
}

/**
 * Matrices that meet the same right side lie one below another: one taller product, whose gradient needs no sum over
 * them. `[…, group, rows, columns]` becomes `[…, group·rows, columns]`.
 */
function stack(g: GraphBuilder, x: Value): Value {
  const [group, rows, columns] = x.shape.slice(-3) as [Dim, Dim, Dim];
  return reshape(g, x, [...x.shape.slice(0, -3), multiply(group, rows), columns]);
}

/** The same for matrices, as `Gemm` where it can be: its right side, a frozen weight, is packed once. */
export function gemm(
  g: GraphBuilder,
  { inputs, attributes: { transB } }: NodeOf<"Gemm">,
  d: Value,
  wants: Wants,
): (Value | null)[] {
  const [a, b, bias] = inputs as [Value, Value, Value?];
  const [, ofB] = product(g, a, b, d, { alpha: 1, transA: 0, transB }, [false, wants[1]!]);
  return [
    wants[0] ? g.op("Gemm", [d, b], { transB: transB ? 0 : 1 }) : null,
    ofB!,
    wants[2] ? sumTo(g, d, bias!) : null,
  ];
}

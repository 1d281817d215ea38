import type { GraphBuilder } from "./builder.ts";
import { type Dim, factors, type Shape } from "./dims.ts";
import type { Value } from "./graph.ts";
import { reshapeTarget } from "./operators.ts";

/**
 * `x` in another shape. Sizes that ONNX's own notation cannot name are products of x's, or of those of `others`,
 * computed at run time.
 */
export function reshape(g: GraphBuilder, x: Value, shape: Shape, ...others: Value[]): Value {
  if (expressible(x.shape, shape)) return g.op("Reshape", [x], { shape });
  const size = (dim: Dim): Value => {
    if (typeof dim === "number") return g.integer(dim);
    const source = [x, ...others].find(value => value.shape.includes(dim));
    if (!source) throw new Error(`no value has the size ${dim}`);
    const axis = source.shape.indexOf(dim);
    return g.op("Shape", [source], { start: axis, end: axis + 1 });
  };
  const product = (dim: Dim) =>
    factors(dim)
      .map(size)
      .reduce((all, next) => g.op("Mul", [all, next], {}));
  return g.op("Reshape", [x, g.op("Concat", shape.map(product), { axis: 0 })], { shape });
}

/** Whether a reshape needs no shape from run time. */
export function expressible(from: Shape, to: Shape): boolean {
  try {
    reshapeTarget(from, to);
    return true;
  } catch {
    return false;
  }
}

import type { GraphBuilder } from "../graph/builder.ts";
import { showShape } from "../graph/dims.ts";
import type { Value } from "../graph/graph.ts";
import { expressible } from "../graph/reshape.ts";

/** `x` with the shape of `like`, by that value's own sizes where the graph does not know them. */
export function reshapeAs(g: GraphBuilder, x: Value, like: Value): Value {
  const { shape } = like;
  if (showShape(x.shape) === showShape(shape)) return x;
  if (expressible(x.shape, shape)) return g.op("Reshape", [x], { shape });
  return g.op("Reshape", [x, g.op("Shape", [like], { start: 0, end: shape.length })], { shape });
}

/** The cotangent of a value that was broadcast: summed over the axes that it was repeated along. */
export function sumTo(g: GraphBuilder, cotangent: Value, like: Value): Value {
  if (showShape(cotangent.shape) === showShape(like.shape)) return cotangent;
  const lead = cotangent.shape.length - like.shape.length;
  const axes = cotangent.shape.flatMap((dim, axis) =>
    axis < lead || dim !== like.shape[axis - lead] ? [axis] : [],
  );
  // An axis `rows?` may be 1 or as long as `rows`. Summing is only right if it is 1, which such graphs demand.
  const summed = g.op("ReduceSum", [cotangent], { axes, keepdims: 1 });
  return reshapeAs(g, summed, like);
}

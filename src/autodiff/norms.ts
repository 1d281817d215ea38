/** Normalisations over the last axes: RMSNorm (Zhang & Sennrich 2019) and LayerNorm (Ba et al. 2016). */
import type { GraphBuilder } from "../graph/builder.ts";
import type { NodeOf, Value } from "../graph/graph.ts";
import { sumTo } from "./broadcast.ts";

type Norm = "RMSNormalization" | "LayerNormalization";

/** x̂ = x / r with r = √(mean x² + ε): dx = (ĝ - x̂ mean(ĝ x̂)) / r with ĝ = d · gain. */
export function rmsNorm(
  g: GraphBuilder,
  { inputs, attributes }: NodeOf<"RMSNormalization">,
  [d]: readonly (Value | null)[],
  wants: readonly boolean[],
): (Value | null)[] {
  const [x, gain] = inputs as [Value, Value];
  return throughRoot(g, x, gain, d!, attributes, wants, dx => dx);
}

/** RMSNorm of x - mean x: the same, and the mean of dx goes away. */
export function layerNorm(
  g: GraphBuilder,
  { inputs, attributes }: NodeOf<"LayerNormalization">,
  [d]: readonly (Value | null)[],
  wants: readonly boolean[],
): (Value | null)[] {
  const [x, gain, bias] = inputs as [Value, Value, Value?];
  const { axes, mean } = over(g, x, attributes);
  const centre = (value: Value) =>
    g.op("Sub", [value, mean(g.op("ReduceSum", [value], { axes, keepdims: 1 }))], {});
  const found = throughRoot(g, centre(x), gain, d!, attributes, wants, centre);
  return bias ? [...found, wants[2] ? sumTo(g, d!, bias) : null] : found;
}

function throughRoot(
  g: GraphBuilder,
  x: Value,
  gain: Value,
  d: Value,
  attributes: NodeOf<Norm>["attributes"],
  wants: readonly boolean[],
  finish: (dx: Value) => Value,
): (Value | null)[] {
  const { axes, mean } = over(g, x, attributes);
  const square = mean(g.op("ReduceSumSquare", [x], { axes, keepdims: 1 }));
  const root = g.op("Sqrt", [g.op("Add", [square, g.number(attributes.epsilon)], {})], {}, "root");
  const unit = g.op("Div", [x, root], {}, "unit");
  const scaled = g.op("Mul", [d, gain], {});
  const along = mean(g.op("ReduceSum", [g.op("Mul", [scaled, unit], {})], { axes, keepdims: 1 }));
  const across = () => g.op("Sub", [scaled, g.op("Mul", [unit, along], {})], {});
  return [
    wants[0] ? finish(g.op("Div", [across(), root], {})) : null,
    wants[1] ? sumTo(g, g.op("Mul", [d, unit], {}), gain) : null,
  ];
}

/** The normalised axes, and the mean over them from the sum. */
function over(g: GraphBuilder, x: Value, { axis }: NodeOf<Norm>["attributes"]) {
  const rank = x.shape.length;
  const first = axis < 0 ? axis + rank : axis;
  const axes = Array.from({ length: rank - first }, (_, i) => first + i);
  const count = axes.reduce((product, at) => product * (x.shape[at] as number), 1);
  if (!Number.isInteger(count)) throw new Error(`${x.name}: the normalised sizes must be known`);
  return { axes, mean: (sum: Value) => g.op("Mul", [sum, g.number(1 / count)], {}) };
}

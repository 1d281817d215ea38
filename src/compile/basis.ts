/**
 * Stored prefixes are in the backbone's own basis (contract, section 1); a smoothed variant's values are divided by its
 * scales. Keys are the same in every variant.
 */
import type { GraphBuilder } from "../graph/builder.ts";
import type { Graph, Value } from "../graph/graph.ts";
import { rewrite } from "../graph/rewrite.ts";

/** Values [kvHeads, length, headDim] of one layer times `by` [kvHeads · headDim], or divided by it. */
export function scaleValues(
  values: Float32Array,
  by: Float32Array,
  { kvHeads, headDim }: { kvHeads: number; headDim: number },
  way: "into the variant" | "out of the variant",
): Float32Array {
  const length = values.length / (kvHeads * headDim);
  return values.map((value, i) => {
    const factor = by[Math.floor(i / (length * headDim)) * headDim + (i % headDim)]!;
    return way === "into the variant" ? value / factor : value * factor;
  });
}

/** The graph with its past values, and so their gradients, in the backbone's own basis. */
export function inOwnBasis(graph: Graph, scales: readonly Float32Array[] | null): Graph {
  if (!scales) return graph;
  const scaled = new Map<Value, Value>();
  return rewrite(graph, (g, node) => {
    const at = node.inputs.findIndex(input => /^past_value\.\d+$/.test(input?.name ?? ""));
    if (at < 0) return null;
    const input = node.inputs[at]!;
    const layer = Number(input.name.split(".")[1]);
    const into = scaled.get(input) ?? divided(g, input, scales[layer]!);
    scaled.set(input, into);
    g.adopt({ ...node, inputs: node.inputs.with(at, into) } as typeof node);
    return node.outputs;
  });
}

function divided(g: GraphBuilder, input: Value, scales: Float32Array): Value {
  const [, kvHeads, , headDim] = input.shape as [unknown, number, unknown, number];
  const by = g.constant("scales", "float32", [1, kvHeads, 1, headDim], scales);
  return g.op("Div", [input, by], {}, "into_variant");
}

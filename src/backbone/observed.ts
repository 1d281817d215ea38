/** A step graph that tells how much attention its past gets, and nothing else. */
import { GraphBuilder } from "../graph/builder.ts";
import type { Graph } from "../graph/graph.ts";
import { pastWeights } from "./architectures/attention.ts";

/** Names of a layer's outputs. */
export const observed = (layer: number) => ({ tokens: `of_tokens.${layer}`, scored: `of_scored.${layer}` });

/**
 * Attention weights, summed over heads where they are computed, so that what a run returns does not grow with the
 * square of its tokens. A layer each: `of_tokens` [rows, 1, 1, 1, past], summed over a row's new tokens, for rows of one
 * length; `of_scored` [rows, 1, 1, scored, past], those of the `scored` tokens of a single row.
 */
export function attentionGraph(step: Graph, layers: number): Graph {
  const g = GraphBuilder.from(step);
  const scored = step.inputs.find(({ name }) => name === "scored")!;
  const values = new Map(step.nodes.flatMap(node => node.outputs.map(value => [value.name, value])));
  const outputs = Array.from({ length: layers }, (_, layer) => {
    const weights = values.get(pastWeights(layer));
    if (!weights) throw new Error(`graph ${step.name} has no value ${pastWeights(layer)}`);
    const names = observed(layer);
    const atScored = g.op("Gather", [weights, scored], { axis: 3 });
    return [
      [names.tokens, g.op("ReduceSum", [weights], { axes: [1, 2, 3], keepdims: 1 })],
      [names.scored, g.op("ReduceSum", [atScored], { axes: [1, 2], keepdims: 1 })],
    ] as const;
  });
  return g.finish(Object.fromEntries(outputs.flat()));
}

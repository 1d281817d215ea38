/** The graph that one training step runs: the loss, and its gradient with respect to what the method moves. */
import { gradient } from "../autodiff/gradient.ts";
import { undone } from "../backbone/architectures/step.ts";
import type { Graph } from "../graph/graph.ts";
import { specialise } from "../graph/specialise.ts";

export type Method = "prefix" | "soft";

/** Inputs of the step graph that a method moves: keys and values of every layer, or embeddings of virtual tokens. */
export function moved(graph: Graph, method: Method): string[] {
  const names = graph.inputs.map(input => input.name);
  return method === "soft" ? ["virtual"] : names.filter(name => /^past_(key|value)\.\d+$/.test(name));
}

/**
 * From a graph with output `loss`: outputs `loss` and `d.<input>` for each moved input. All rows share one past, which
 * is the prefix.
 */
export function trainingGraph(loss: Graph, method: Method): Graph {
  const shared = specialise(loss, { "rows?": 1 });
  return gradient(shared, {
    of: "loss",
    wrt: moved(shared, method),
    keep: ["loss"],
    undo: undone,
  });
}

import { GraphBuilder } from "./builder.ts";
import { showShape } from "./dims.ts";
import type { Graph, Node, Value } from "./graph.ts";

/** What stands in a node's place, an output for each of its own; null leaves it as it is. */
export type Replace = (g: GraphBuilder, node: Node) => readonly Value[] | null;

/**
 * The graph with some of its nodes replaced. A replacement gives outputs of the same types and shapes, which is checked;
 * it sees the node with what was replaced before it in place.
 */
export function rewrite(graph: Graph, replace: Replace): Graph {
  const g = GraphBuilder.before(graph);
  const known = new Map<Value, Value>();
  const swap = <V extends Value | null>(value: V): V => ((value && known.get(value)) ?? value) as V;
  for (const old of graph.nodes) {
    const node = Object.freeze({ ...old, inputs: old.inputs.map(swap) } as Node);
    const { name } = old.outputs[0]!;
    const outputs = g.within(`${name}:`, () => replace(g, node));
    if (outputs === null) {
      g.adopt(node);
      continue;
    }
    for (const [index, { type, shape }] of old.outputs.entries()) {
      const output = outputs[index];
      if (output?.type !== type || showShape(output.shape) !== showShape(shape))
        throw new Error(`${name}: it was ${type}${showShape(shape)} before it was replaced`);
      known.set(old.outputs[index]!, output);
    }
  }
  return g.finish(Object.fromEntries(graph.outputs.map(output => [output.name, swap(output)])));
}

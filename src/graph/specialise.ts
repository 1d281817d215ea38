import { type Dim, type Shape, substitute } from "./dims.ts";
import type { Graph, Node, Value } from "./graph.ts";

/** The graph with other sizes in place of some of its names: `{ "rows?": 1 }` where all rows share one past. */
export function specialise(graph: Graph, sizes: Readonly<Record<string, Dim>>): Graph {
  const known = new Map<Value, Value>();
  const shape = (from: Shape): Shape => from.map(dim => substitute(dim, sizes));
  const swap = <V extends Value | null>(value: V): V => {
    if (value === null) return value;
    const swapped: Value =
      known.get(value) ?? Object.freeze({ ...(value as Value), shape: shape(value.shape) });
    known.set(value, swapped);
    return swapped as V;
  };
  const node = (from: Node): Node => {
    const attributes: Record<string, unknown> = { ...from.attributes };
    if (from.op === "Reshape" || from.op === "Expand") attributes.shape = shape(from.attributes.shape);
    if (from.op === "Split") attributes.sizes = shape(from.attributes.sizes);
    return Object.freeze({
      ...from,
      attributes,
      inputs: from.inputs.map(swap),
      outputs: from.outputs.map(swap),
    }) as unknown as Node;
  };
  return Object.freeze({
    ...graph,
    inputs: graph.inputs.map(swap),
    outputs: graph.outputs.map(swap),
    constants: graph.constants.map(swap),
    weights: graph.weights.map(swap),
    nodes: graph.nodes.map(node),
  });
}

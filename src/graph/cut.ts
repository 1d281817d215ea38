import { GraphBuilder } from "./builder.ts";
import type { Graph, Node, Value } from "./graph.ts";

export interface CutOptions {
  /** The new graph's name. */
  name: string;
  /** Inputs of the new graph, each with the name of the value that it stands for: computed here, or an input. */
  inputs: Readonly<Record<string, string>>;
  /** Its outputs, each with the name of the value that it is. */
  outputs: Readonly<Record<string, string>>;
}

/**
 * The part of a graph that leads from some of its values to others, as a graph of its own: what the part reads besides
 * (inputs, weights, constants) it keeps by its name, and what depends on none of `inputs` is computed again. Throws
 * where a name is unknown, or an input is never read.
 */
export function cut(graph: Graph, { name, inputs, outputs }: CutOptions): Graph {
  const values = new Map(
    [...graph.inputs, ...graph.nodes.flatMap(node => node.outputs)].map(value => [value.name, value]),
  );
  const find = (wanted: string): Value => {
    const value = values.get(wanted);
    if (!value) throw new Error(`graph ${graph.name} has no value ${wanted}`);
    return value;
  };
  const edges = new Map(
    Object.entries(inputs).map(([as, of]): [Value, Value] => {
      const value = find(of);
      return [value, Object.freeze({ ...value, name: as })];
    }),
  );
  const swap = <V extends Value | null>(value: V): V => ((value && edges.get(value)) ?? value) as V;
  const builder = GraphBuilder.from({
    ...graph,
    name,
    inputs: [...edges.values(), ...graph.inputs.filter(input => !edges.has(input))],
    nodes: graph.nodes
      .filter(node => !node.outputs.some(output => edges.has(output)))
      .map(node => Object.freeze({ ...node, inputs: node.inputs.map(swap) } as Node)),
  });
  const part = builder.finish(Object.fromEntries(Object.entries(outputs).map(([as, of]) => [as, find(of)])));
  for (const edge of edges.values())
    if (!part.inputs.includes(edge)) throw new Error(`graph ${name} never reads ${edge.name}`);
  return part;
}

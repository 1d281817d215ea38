import { showShape } from "./dims.ts";
import type { Graph, Node, Value } from "./graph.ts";

/**
 * A graph as text, one line a node:
 * `layer.0/scores  float32[rows, 3, 3*new, past]  = FusedMatMul(layer.0/q, past_key.0) {alpha: 0.125, transB: 1}`
 */
export function printGraph(graph: Graph): string {
  const sizes = new Set(
    [...graph.inputs, ...graph.outputs].flatMap(value => value.shape.filter(dim => typeof dim === "string")),
  );
  const weights = new Set(graph.weights.map(weight => weight.name));
  const line = (value: Value) => `  ${value.name}  ${value.type}${showShape(value.shape)}`;
  return [
    `graph ${graph.name}  (${graph.nodes.length} nodes, ${graph.weights.length} weights; sizes: ${[...sizes].join(", ") || "all fixed"})`,
    "inputs",
    ...graph.inputs.map(line),
    "weights",
    ...graph.weights.map(line),
    "constants",
    ...graph.constants.map(constant =>
      constant.data.length <= 8 ? `${line(constant)}  = ${[...constant.data].join(", ")}` : line(constant),
    ),
    "nodes",
    ...graph.nodes.map(node => printNode(node, weights)),
    "outputs",
    ...graph.outputs.map(line),
    "",
  ].join("\n");
}

/** A graph for `JSON.stringify`: nodes name what they read, and constants have no data. */
export const graphData = (graph: Graph): object => ({
  ...graph,
  constants: graph.constants.map(({ data: _, ...constant }) => constant),
  nodes: graph.nodes.map(node => ({ ...node, inputs: node.inputs.map(value => value?.name ?? null) })),
});

function printNode(node: Node, weights: ReadonlySet<string>): string {
  const left = node.outputs.map(value => `${value.name}  ${value.type}${showShape(value.shape)}`).join(",  ");
  const right = node.inputs
    .map(value => (value === null ? "-" : weights.has(value.name) ? `@${value.name}` : value.name))
    .join(", ");
  const attributes = Object.entries(node.attributes).map(
    ([name, value]) => `${name}: ${Array.isArray(value) ? showShape(value) : value}`,
  );
  return `  ${left}  = ${node.op}(${right})${attributes.length > 0 ? ` {${attributes.join(", ")}}` : ""}`;
}

import { createHash } from "node:crypto";
import { showShape } from "./dims.ts";
import type { Constant, Data, Graph, Value } from "./graph.ts";

/**
 * A text that is equal for graphs that compute the same from other weights: names of inputs and outputs count, of
 * weights only their order, types and shapes, of inner values and constants nothing. A session of one graph then runs
 * the other, once its weights are inputs (`feedWeights`).
 */
export function signature(graph: Graph): string {
  const labels = new Map<Value, string>();
  const label = (value: Value, text: string) => {
    labels.set(value, text);
    return `${text} ${value.type}${showShape(value.shape)}`;
  };
  return [
    ...graph.inputs.map(value => label(value, value.name)),
    ...graph.weights.map((value, index) => label(value, `@${index}`)),
    ...graph.constants.map(value => label(value, `#${digestOf(value)}`)),
    ...graph.nodes.map(({ op, inputs, outputs, attributes }, at) => {
      const read = inputs.map(value => (value === null ? "-" : labels.get(value))).join();
      const made = outputs.map((value, index) => label(value, `${at}.${index}`)).join();
      return `${made}=${op}(${read})${JSON.stringify(attributes)}`;
    }),
    ...graph.outputs.map(value => `${value.name}=${labels.get(value)}`),
  ].join("\n");
}

/** Large tables are shared by many graphs: each is read once. */
const digests = new WeakMap<Data, string>();

function digestOf({ data }: Constant): string {
  const known = digests.get(data);
  if (known !== undefined) return known;
  const bytes = new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
  const digest = createHash("sha1").update(bytes).digest("hex");
  digests.set(data, digest);
  return digest;
}

/** The graph with its weights as inputs, behind its own, by the same names. */
export const feedWeights = (graph: Graph): Graph =>
  Object.freeze({ ...graph, inputs: [...graph.inputs, ...graph.weights], weights: [] });

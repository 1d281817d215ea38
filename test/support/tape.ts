/** A graph executed on TensorFlow.js tensors, operator by operator, so that its own tape can differentiate it. */
import type * as tfjs from "@tensorflow/tfjs-core";
import { evaluate, type Sizes } from "../../src/graph/dims.ts";
import type { Graph } from "../../src/graph/graph.ts";
import type { OperatorName } from "../../src/graph/operators.ts";
import { type Tensor, type TensorFlow, tfjsOperators } from "../../src/runtime/tfjs-operators.ts";

type Kernel = (tf: TensorFlow, inputs: Tensor[], attributes: object) => Tensor | Tensor[];

/** Outputs by name; `given` holds inputs, weights and constants. */
export function execute(
  tf: typeof tfjs,
  graph: Graph,
  given: ReadonlyMap<string, Tensor>,
  sizes: Sizes = new Map(),
): Map<string, Tensor> {
  const values = new Map(given);
  for (const { op, inputs, outputs, attributes } of graph.nodes) {
    const concrete: Record<string, unknown> = { ...attributes };
    for (const name of ["shape", "sizes"] as const)
      if (name in concrete)
        concrete[name] = (concrete[name] as (string | number)[]).map(dim => evaluate(dim, sizes));
    const operands = inputs.map(input => (input === null ? undefined : values.get(input.name)!)) as Tensor[];
    const results = [(tfjsOperators[op as OperatorName] as Kernel)(tf, operands, concrete)].flat();
    for (const [index, output] of outputs.entries()) values.set(output.name, results[index]!);
  }
  return new Map(graph.outputs.map(({ name }) => [name, values.get(name)!]));
}

/** SiLU (Elfwing et al. 2018), y = x σ(x), written as two operators: their rules take six passes over x, it takes four. */
import type { GraphBuilder } from "../graph/builder.ts";
import type { Graph, Node, Value } from "../graph/graph.ts";

export class Silus {
  /** What each sigmoid was taken of. */
  readonly #arguments: ReadonlyMap<Value, Value>;

  constructor({ nodes }: Graph) {
    const sigmoids = nodes.filter(({ op }) => op === "Sigmoid");
    this.#arguments = new Map(sigmoids.map(({ inputs, outputs }) => [outputs[0]!, inputs[0]!]));
  }

  /** Whether the node is the product of a sigmoid and its argument. */
  has({ op, inputs }: Node): boolean {
    if (op !== "Mul") return false;
    const [a, b] = [inputs[0]!, inputs[1]!];
    return this.#arguments.get(a) === b || this.#arguments.get(b) === a;
  }

  /** The cotangents of the product's inputs: all of it is the argument's, σ(x) (1 + x - y) times the output's. */
  back(g: GraphBuilder, { inputs, outputs }: Node, cotangent: Value): (Value | null)[] {
    const [a, b] = [inputs[0]!, inputs[1]!];
    // x may be a sigmoid itself.
    const [x, sigmoid] = this.#arguments.get(a) === b ? [b, a] : [a, b];
    const y = outputs[0]!;
    const rest = g.op("Add", [g.op("Sub", [x, y], {}), g.number(1)], {});
    const slope = g.op("Mul", [sigmoid, rest], {}, "slope");
    const given = g.op("Mul", [cotangent, slope], {});
    return inputs.map(input => (input === x ? given : null));
  }
}

import { elementCount } from "../tensor/tensor.ts";
import { normal, type Shape } from "./dims.ts";
import type { Constant, Data, DataOf, DType, Graph, Node, NodeOf, Value, Weight } from "./graph.ts";
import { type Attributes, type OperatorName, operators } from "./operators.ts";

type Operand = Value | null;

/** Adds nodes one after another, checking each against its operator's rule; `finish` freezes what leads to the outputs. */
export class GraphBuilder {
  readonly name: string;
  readonly #inputs: Value[] = [];
  readonly #constants: Constant[] = [];
  readonly #weights = new Map<string, Weight>();
  readonly #nodes: Node[] = [];
  readonly #numbers = new Map<string, Constant>();
  readonly #names = new Set<string>();
  #scope = "";

  constructor(name: string) {
    this.name = name;
  }

  /** A builder that goes on where `graph` ends: its values can be read by new nodes, and finished as outputs again. */
  static from(graph: Graph): GraphBuilder {
    const builder = GraphBuilder.before(graph);
    for (const node of graph.nodes) builder.adopt(node);
    return builder;
  }

  /** A builder with all that the nodes of `graph` read, and none of them. */
  static before(graph: Graph): GraphBuilder {
    const builder = new GraphBuilder(graph.name);
    builder.#inputs.push(...graph.inputs);
    builder.#constants.push(...graph.constants);
    for (const weight of graph.weights) builder.#weights.set(weight.name, weight);
    for (const { name } of [...graph.inputs, ...graph.constants, ...graph.weights]) builder.#names.add(name);
    return builder;
  }

  /** Takes a node as it is; what it reads must be there. */
  adopt(node: Node): void {
    for (const { name } of node.outputs) this.#names.add(name);
    this.#nodes.push(node);
  }

  /** Names of values made inside `body` start with `scope/`. */
  within<Result>(scope: string, body: () => Result): Result {
    const outer = this.#scope;
    this.#scope = `${outer}${scope}/`;
    try {
      return body();
    } finally {
      this.#scope = outer;
    }
  }

  input(name: string, type: DType, shape: Shape): Value {
    const value = Object.freeze({ name: this.#claim(name), type, shape: Object.freeze(shape.map(normal)) });
    this.#inputs.push(value);
    return value;
  }

  /** The weight `name`; asked for twice, it is the same value. */
  weight(name: string, shape: readonly number[], type: Weight["type"] = "float32"): Weight {
    const known = this.#weights.get(name);
    if (known) return known;
    const value: Weight = Object.freeze({
      name: this.#claim(name),
      type,
      shape: Object.freeze([...shape]),
    });
    this.#weights.set(name, value);
    return value;
  }

  constant<Type extends DType>(
    name: string,
    type: Type,
    shape: readonly number[],
    data: DataOf[Type],
  ): Constant {
    const count = elementCount(shape);
    if (data.length !== count)
      throw new Error(`constant ${name} has ${data.length} elements, its shape ${count}`);
    const value: Constant = Object.freeze({
      name: this.#claim(this.#scope + name),
      type,
      shape: Object.freeze([...shape]),
      data: data as Data,
    });
    this.#constants.push(value);
    return value;
  }

  /** A scalar, float32; the same number is the same value. */
  number(number: number): Constant {
    return this.#number(`number.${number}`, [], Float32Array.of(number));
  }

  /** One int64 in a row; the same number is the same value. */
  integer(number: number): Constant {
    return this.#number(`integer.${number}`, [1], BigInt64Array.of(BigInt(number)));
  }

  #number(label: string, shape: readonly number[], data: Float32Array | BigInt64Array): Constant {
    const known = this.#numbers.get(label);
    if (known) return known;
    const type = data instanceof Float32Array ? ("float32" as const) : ("int64" as const);
    const value: Constant = Object.freeze({ name: this.#fresh(label), type, shape, data });
    this.#constants.push(value);
    this.#numbers.set(label, value);
    return value;
  }

  /** One output. `label` names it; by default the operator does. */
  op<Op extends OperatorName>(
    op: Op,
    inputs: readonly Operand[],
    attributes: Attributes[Op],
    label?: string,
  ): Value {
    const [only, ...rest] = this.ops(op, inputs, attributes, label);
    if (!only || rest.length > 0) throw new Error(`${op} has ${rest.length + 1} outputs; use ops()`);
    return only;
  }

  /** All outputs of an operator that has several (Split). */
  ops<Op extends OperatorName>(
    op: Op,
    inputs: readonly Operand[],
    attributes: Attributes[Op],
    label: string = op,
  ): Value[] {
    const { arity, infer } = operators[op];
    const where = `${this.#scope}${label}`;
    if (inputs.length < arity[0] || inputs.length > arity[1]) {
      throw new Error(`${where}: ${op} takes ${arity.join(" to ")} inputs, not ${inputs.length}`);
    }
    let inferred: ReturnType<typeof infer>;
    try {
      inferred = infer([...inputs], attributes);
    } catch (error) {
      throw new Error(`${where}: ${op}: ${(error as Error).message}`, { cause: error });
    }
    const outputs = inferred.map(({ type, shape }) =>
      Object.freeze({ name: this.#fresh(where), type, shape: Object.freeze([...shape]) }),
    );
    const node: NodeOf<Op> = {
      op,
      inputs: Object.freeze([...inputs]),
      outputs: Object.freeze(outputs),
      attributes: Object.freeze(attributes),
    };
    this.#nodes.push(Object.freeze(node) as unknown as Node);
    return outputs;
  }

  /** The finished graph; what does not lead to an output is left out. `outputs` gives each its public name. */
  finish(outputs: Readonly<Record<string, Value>>): Graph {
    const renamed = new Map<Value, Value>();
    for (const [name, value] of Object.entries(outputs)) {
      if (renamed.has(value)) throw new Error(`${name}: the value is an output already`);
      renamed.set(value, value.name === name ? value : Object.freeze({ ...value, name: this.#claim(name) }));
    }
    const needed = new Set<Value>(Object.values(outputs));
    const nodes: Node[] = [];
    for (const node of this.#nodes.toReversed()) {
      if (!node.outputs.some(output => needed.has(output))) continue;
      for (const input of node.inputs) if (input) needed.add(input);
      nodes.push(node);
    }
    const swap = <V extends Value | null>(value: V): V => ((value && renamed.get(value)) ?? value) as V;
    return Object.freeze({
      name: this.name,
      inputs: this.#inputs.filter(value => needed.has(value)),
      outputs: [...renamed.values()],
      constants: this.#constants.filter(value => needed.has(value)),
      weights: [...this.#weights.values()].filter(value => needed.has(value)),
      nodes: nodes
        .toReversed()
        .map(node =>
          Object.freeze({ ...node, inputs: node.inputs.map(swap), outputs: node.outputs.map(swap) } as Node),
        ),
    });
  }

  #claim(name: string): string {
    if (this.#names.has(name)) throw new Error(`the name ${name} is taken`);
    this.#names.add(name);
    return name;
  }

  #fresh(stem: string): string {
    let name = stem;
    for (let count = 2; this.#names.has(name); count++) name = `${stem}.${count}`;
    return this.#claim(name);
  }
}

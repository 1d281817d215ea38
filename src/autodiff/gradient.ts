/**
 * Reverse-mode differentiation of a graph, as a graph (Griewank & Walther 2008; in the manner of JAX's autodidax): the
 * nodes are walked once backwards, each operator's row of the table turns the cotangents of its outputs into those of
 * its inputs, and only what leads from the wanted inputs to the outputs is visited, so that a frozen weight never gets
 * a gradient.
 */
import { GraphBuilder } from "../graph/builder.ts";
import type { Graph, Node, Value } from "../graph/graph.ts";
import { type Rule, rules } from "./rules.ts";
import { Silus } from "./silu.ts";
import { type Undo, UndoneGathers } from "./undo.ts";

export interface GradientOptions {
  /**
   * A scalar output (every size 1), whose gradient is wanted; or outputs by name with the name of an input that brings
   * the cotangent of each, float32 of the output's shape (a vector-Jacobian product, to differentiate in parts).
   */
  of: string | Readonly<Record<string, string>>;
  /** Inputs, float32. */
  wrt: readonly string[];
  /** Outputs of the graph that are wanted besides. */
  keep?: readonly string[];
  /** Index inputs whose gathers of rows another index input undoes. */
  undo?: Readonly<Record<string, Undo>>;
}

/**
 * The graph with outputs `keep`, and `d.<input>` for each of `wrt`, of the input's shape. Throws where a name is
 * unknown, an output does not depend on an input, or an operator on the way has no derivative.
 */
export function gradient(graph: Graph, { of, wrt, keep = [], undo = {} }: GradientOptions): Graph {
  const g = GraphBuilder.from(graph);
  const outputs = new Map(graph.outputs.map(value => [value.name, value]));
  const inputs = new Map(graph.inputs.map(value => [value.name, value]));
  const named = (values: ReadonlyMap<string, Value>, name: string, what: string): Value => {
    const value = values.get(name);
    if (!value) throw new Error(`graph ${graph.name} has no ${what} ${name}`);
    return value;
  };
  const wanted = wrt.map(name => named(inputs, name, "input"));
  const active = reached(graph, wanted);

  const cotangents = new Map<Value, Value>();
  const give = (to: Value, cotangent: Value) => {
    const other = cotangents.get(to);
    cotangents.set(to, other ? g.op("Add", [other, cotangent], {}, "sum") : cotangent);
  };
  const gathers = new UndoneGathers(g, undo, name => named(inputs, name, "input"));
  const silus = new Silus(graph);
  const back = (node: Node, given: readonly (Value | null)[], wants: readonly boolean[]) => {
    if (gathers.has(node)) return [gathers.back(node, given[0]!)];
    if (silus.has(node)) return silus.back(g, node, given[0]!);
    return apply(g, node, given, wants);
  };

  return g.within("d", () => {
    const seeds: Value[] = [];
    for (const [name, from] of typeof of === "string" ? [[of, null] as const] : Object.entries(of)) {
      const output = named(outputs, name, "output");
      const seed = from === null ? one(g, output) : g.input(from, "float32", output.shape);
      seeds.push(seed);
      give(output, seed);
    }
    for (const node of graph.nodes.toReversed()) {
      const given = node.outputs.map(output => cotangents.get(output) ?? null);
      const wants = node.inputs.map(input => input !== null && active.has(input));
      if (!given.some(Boolean) || !wants.some(Boolean)) continue;
      for (const [index, cotangent] of back(node, given, wants).entries())
        if (cotangent && wants[index]) give(node.inputs[index]!, cotangent);
    }
    const taken = new Set(seeds);
    const results = wanted.map(value => {
      const cotangent = cotangents.get(value);
      if (!cotangent) throw new Error(`graph ${graph.name}: no output depends on ${value.name}`);
      // An output is a value of its own: no input, and no other output.
      const own = taken.has(cotangent) ? g.op("Mul", [cotangent, g.number(1)], {}, "copy") : cotangent;
      taken.add(own);
      return [`d.${value.name}`, own] as const;
    });
    const kept = keep.map(name => [name, named(outputs, name, "output")] as const);
    return g.finish(Object.fromEntries([...kept, ...results]));
  });
}

/** Values that depend on `from`. */
function reached(graph: Graph, from: readonly Value[]): Set<Value> {
  const found = new Set(from);
  for (const node of graph.nodes) {
    if (node.inputs.some(input => input !== null && found.has(input)))
      for (const output of node.outputs) if (output.type === "float32") found.add(output);
  }
  return found;
}

function one(g: GraphBuilder, output: Value): Value {
  if (output.shape.some(size => size !== 1))
    throw new Error(`${output.name} is no scalar: give its cotangent as an input`);
  return g.constant("one", "float32", output.shape as number[], Float32Array.of(1));
}

function apply(
  g: GraphBuilder,
  node: Node,
  given: readonly (Value | null)[],
  wants: readonly boolean[],
): readonly (Value | null)[] {
  const { name } = node.outputs[0]!;
  const rule = rules[node.op] as Rule<typeof node.op> | string;
  if (typeof rule === "string") throw new Error(`${name}: ${node.op} cannot be differentiated: ${rule}`);
  return g.within(name, () => rule(g, node as never, given, wants));
}

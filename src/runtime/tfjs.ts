import { open } from "node:fs/promises";
import type * as tfjs from "@tensorflow/tfjs-core";
import { evaluate, type Sizes, showShape } from "../graph/dims.ts";
import type { DataOf, Graph, Node, Value, Weight } from "../graph/graph.ts";
import { type OperatorName, operators, reshapeTarget } from "../graph/operators.ts";
import { elementCount } from "../tensor/tensor.ts";
import type { Runtime, RuntimeTensor, Session, Tensors, WeightFile } from "./runtime.ts";
import { type Backend, startBackend } from "./tfjs-backend.ts";
import { type Concrete, tfjsOperators } from "./tfjs-operators.ts";
import { fromTfjs, tfjsType, toTfjs } from "./tfjs-tensor.ts";

type TensorFlow = typeof tfjs;
type Tensor = tfjs.Tensor;

/**
 * TensorFlow.js: an interpreter of the graph, node by node, at fp32. `backends` are tried in order. `threads` counts
 * for libtensorflow alone, and only the first time it starts in a process.
 */
export async function createTfjsRuntime({
  threads,
  backends = ["tensorflow", "wasm", "cpu"],
}: {
  threads: number;
  backends?: readonly Backend[];
}): Promise<Runtime> {
  const { tf, backend, version, threads: used } = await startBackend(threads, backends);
  return {
    info: { name: "tfjs", backend, version, threads: used },
    load: async (graph, weights) => {
      // One TensorFlow.js may hold several backends; the switch is immediate once a backend has started.
      const select = () => void tf.setBackend(backend);
      try {
        return new TfjsSession(tf, select, graph, await readWeights(graph, weights));
      } catch (error) {
        throw new Error(`graph ${graph.name} does not load: ${(error as Error).message}`, { cause: error });
      }
    },
  };
}

const arrays = { float32: Float32Array, int8: Int8Array, uint8: Uint8Array } as const;

async function readWeights(graph: Graph, file: WeightFile): Promise<Map<Value, DataOf[Weight["type"]]>> {
  const data = new Map<Value, DataOf[Weight["type"]]>();
  if (graph.weights.length === 0) return data;
  const handle = await open(file.path, "r");
  try {
    for (const weight of graph.weights) {
      const entry = file.entries.get(weight.name);
      if (!entry) throw new Error(`the weight file has no ${weight.name}`);
      const numbers = new arrays[weight.type](elementCount(weight.shape));
      if (numbers.byteLength !== entry.bytes)
        throw new Error(`${weight.name} has ${entry.bytes} bytes, its shape ${numbers.byteLength}`);
      const bytes = new Uint8Array(numbers.buffer);
      const { bytesRead } = await handle.read(bytes, 0, bytes.length, entry.offset);
      if (bytesRead !== bytes.length) throw new Error(`the weight file ends inside ${weight.name}`);
      data.set(weight, numbers);
    }
    return data;
  } finally {
    await handle.close();
  }
}

/** Which nodes a set of outputs needs, and what is read for the last time at each. */
interface Plan {
  readonly nodes: readonly { readonly node: Node; readonly last: readonly string[] }[];
}

class TfjsSession implements Session {
  readonly #tf: TensorFlow;
  readonly #select: () => void;
  readonly #graph: Graph;
  /** Weights and constants: they live as long as the session. */
  readonly #fixed: ReadonlyMap<string, Tensor>;
  readonly #plans = new Map<string, Plan>();

  constructor(tf: TensorFlow, select: () => void, graph: Graph, weights: Map<Value, DataOf[Weight["type"]]>) {
    this.#tf = tf;
    this.#select = select;
    this.#graph = graph;
    select();
    const fixed = new Map<string, Tensor>();
    for (const [{ name, type, shape }, data] of weights)
      fixed.set(name, toTfjs(tf, type, shape as number[], data));
    for (const { name, type, shape, data } of graph.constants)
      fixed.set(name, toTfjs(tf, type, shape as number[], data));
    this.#fixed = fixed;
    this.#plan(graph.outputs.map(output => output.name));
  }

  async run(feeds: Tensors, fetches: readonly string[]): Promise<Record<string, RuntimeTensor>> {
    const { nodes } = this.#plan(fetches);
    const sizes = bindSizes(this.#graph, feeds);
    this.#select();
    const live = new Map<string, Tensor>();
    try {
      for (const { name, type } of this.#graph.inputs) {
        const { dims, data } = feeds[name]!;
        live.set(name, toTfjs(this.#tf, type, dims, data));
      }
      for (const { node, last } of nodes) {
        this.#execute(node, live, sizes);
        for (const name of last) {
          live.get(name)!.dispose();
          live.delete(name);
        }
      }
      const types = new Map(this.#graph.outputs.map(({ name, type }) => [name, type]));
      return Object.fromEntries(
        fetches.map(name => [name, fromTfjs(types.get(name)!, (live.get(name) ?? this.#fixed.get(name))!)]),
      );
    } finally {
      for (const tensor of live.values()) tensor.dispose();
    }
  }

  async close(): Promise<void> {
    this.#select();
    for (const tensor of this.#fixed.values()) tensor.dispose();
  }

  #plan(fetches: readonly string[]): Plan {
    const key = fetches.join("\n");
    const known = this.#plans.get(key);
    if (known) return known;
    const outputs = new Set(this.#graph.outputs.map(output => output.name));
    for (const name of fetches)
      if (!outputs.has(name)) throw new Error(`graph ${this.#graph.name} has no output ${name}`);
    // From the end: the first reader met is the last to run.
    const wanted = new Set(fetches);
    const nodes: { node: Node; last: string[] }[] = [];
    for (const node of this.#graph.nodes.toReversed()) {
      if (!node.outputs.some(output => wanted.has(output.name))) continue;
      const unread = node.outputs.map(output => output.name).filter(name => !wanted.has(name));
      const last = node.inputs.flatMap(input => (input && !wanted.has(input.name) ? [input.name] : []));
      for (const name of last) wanted.add(name);
      const freed = [...new Set([...unread, ...last])].filter(name => !this.#fixed.has(name));
      nodes.push({ node, last: freed });
    }
    const plan = { nodes: nodes.reverse() };
    this.#plans.set(key, plan);
    return plan;
  }

  #execute(node: Node, live: Map<string, Tensor>, sizes: Sizes): void {
    const read = ({ name }: Value) => (live.get(name) ?? this.#fixed.get(name))!;
    const inputs = node.inputs.filter(input => input !== null);
    const tensors = inputs.map(read);
    const attributes = concrete(node, tensors, sizes);
    try {
      // The operator's own rule over this run's sizes: it refuses what does not fit, and says how large the outputs are.
      const shapes = (operators[node.op].infer as Infer)(
        inputs.map((input, i) => ({ ...input, shape: tensors[i]!.shape })),
        attributes,
      ).map(({ shape }) => shape as number[]);
      const results = this.#tf.tidy(() => {
        // Backends disagree about empty tensors; here no kernel meets one that would be its only result.
        if (shapes.every(shape => shape.includes(0)))
          return shapes.map((shape, i) => this.#tf.zeros(shape, tfjsType(node.outputs[i]!.type)));
        const result = (tfjsOperators[node.op] as Kernel)(this.#tf, tensors, attributes);
        return Array.isArray(result) ? result : [result];
      });
      for (const [i, { name }] of node.outputs.entries()) live.set(name, results[i]!);
    } catch (error) {
      const where = `graph ${this.#graph.name}, ${node.op} ${node.outputs[0]!.name}`;
      throw new Error(`${where}: ${(error as Error).message}`, { cause: error });
    }
  }
}

type Infer = (inputs: Value[], attributes: object) => { shape: Value["shape"] }[];
type Kernel = (tf: TensorFlow, inputs: Tensor[], attributes: object) => Tensor | Tensor[];

/** The node's attributes with this run's sizes. */
function concrete(node: Node, tensors: Tensor[], sizes: Sizes): Concrete<OperatorName> {
  if (node.op === "Reshape") {
    // Computed where more than one size is known at run time alone.
    if (tensors[1]) return { shape: [...tensors[1].dataSync()] };
    const { shape } = node.attributes;
    const target = reshapeTarget(node.inputs[0]!.shape, shape);
    const size = (kept: number, axis: number) =>
      kept === 0 ? tensors[0]!.shape[axis]! : evaluate(shape[axis]!, sizes);
    return { shape: target.map(size) };
  }
  if (node.op === "Expand") return { shape: [...tensors[1]!.dataSync()] };
  if (node.op === "Split") {
    const given = tensors[1]?.dataSync();
    return { ...node.attributes, sizes: given ? [...given] : (node.attributes.sizes as readonly number[]) };
  }
  return node.attributes;
}

/** What every symbolic size is in this run. Throws on an input that is missing, of another type, or does not fit. */
function bindSizes(graph: Graph, feeds: Tensors): Sizes {
  const sizes = new Map<string, number>();
  for (const { name, type, shape } of graph.inputs) {
    const feed = feeds[name];
    if (!feed) throw new Error(`graph ${graph.name}: input ${name} is missing`);
    const bad = () =>
      new Error(
        `graph ${graph.name}: input ${name} is ${feed.type}${showShape(feed.dims)}, not ${type}${showShape(shape)}`,
      );
    if (feed.type !== type || feed.dims.length !== shape.length) throw bad();
    for (const [axis, dim] of shape.entries()) {
      const size = feed.dims[axis]!;
      if (typeof dim === "number" ? dim !== size : (sizes.get(dim) ?? size) !== size) throw bad();
      // `rows?` is 1 or rows, input by input.
      if (typeof dim === "string" && !dim.endsWith("?")) sizes.set(dim, size);
    }
  }
  return sizes;
}

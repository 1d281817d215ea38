/**
 * Sessions that many graphs share: a backbone's layers are one graph with other weights, so one session runs them all,
 * fed with the weights of the layer whose turn it is. They are read from their file into the same buffers every time:
 * all layers together then hold one layer's weights.
 */
import { type FileHandle, open } from "node:fs/promises";
import type { DataOf, DType, Graph, Weight } from "../graph/graph.ts";
import { feedWeights, signature } from "../graph/signature.ts";
import type { Runtime, RuntimeTensor, Session, Tensors, WeightFile } from "../runtime/runtime.ts";
import { elementCount } from "../tensor/tensor.ts";

interface Shared {
  session: Session;
  /** The weights of the graph that was loaded: their names, and the buffers that other graphs' weights are read into. */
  weights: { name: string; tensor: RuntimeTensor }[];
}

export class FedGraphs {
  readonly #runtime: Runtime;
  readonly #file: WeightFile;
  readonly #shared = new Map<string, Promise<Shared>>();
  readonly #signatures = new WeakMap<Graph, string>();
  #handle: Promise<FileHandle> | null = null;

  constructor(runtime: Runtime, file: WeightFile) {
    this.#runtime = runtime;
    this.#file = file;
  }

  /** Runs the graph; the first of its kind is loaded. Throws where the weight file lacks one of its weights. */
  async run(
    graph: Graph,
    feeds: Tensors,
    fetches: readonly string[],
  ): Promise<Record<string, RuntimeTensor>> {
    const kind = this.#signatures.get(graph) ?? signature(graph);
    this.#signatures.set(graph, kind);
    const shared = this.#shared.get(kind) ?? this.#load(graph);
    this.#shared.set(kind, shared);
    const { session, weights } = await shared;
    this.#handle ??= open(this.#file.path, "r");
    const handle = await this.#handle;
    for (const [index, weight] of graph.weights.entries())
      await this.#read(handle, weight, weights[index]!.tensor);
    return session.run(
      { ...feeds, ...Object.fromEntries(weights.map(({ name, tensor }) => [name, tensor])) },
      fetches,
    );
  }

  async close(): Promise<void> {
    for (const shared of this.#shared.values()) await (await shared).session.close();
    await (await this.#handle)?.close();
  }

  async #load(graph: Graph): Promise<Shared> {
    const session = await this.#runtime.load(feedWeights(graph), this.#file, { memory: "returned" });
    return { session, weights: graph.weights.map(weight => ({ name: weight.name, tensor: empty(weight) })) };
  }

  async #read(handle: FileHandle, { name }: Weight, { data }: RuntimeTensor): Promise<void> {
    const entry = this.#file.entries.get(name);
    if (entry?.bytes !== data.byteLength)
      throw new Error(`${name} has ${entry?.bytes ?? "no"} bytes in the weight file, not ${data.byteLength}`);
    const bytes = new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
    const { bytesRead } = await handle.read(bytes, 0, bytes.length, entry.offset);
    if (bytesRead !== bytes.length) throw new Error(`the weight file ends inside ${name}`);
  }
}

const arrays: { readonly [Type in DType]: (length: number) => DataOf[Type] } = {
  float32: length => new Float32Array(length),
  int64: length => new BigInt64Array(length),
  bool: length => new Uint8Array(length),
  uint8: length => new Uint8Array(length),
  int8: length => new Int8Array(length),
};

function empty({ type, shape }: Weight): RuntimeTensor {
  const data = arrays[type](elementCount(shape));
  return { type, dims: shape, data } as RuntimeTensor;
}

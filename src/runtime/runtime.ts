/** What executes a graph. Two implementations check each other: onnx.ts and tfjs.ts. */
import type { DataOf, DType, Graph } from "../graph/graph.ts";

export type RuntimeTensor = {
  [Type in DType]: { readonly type: Type; readonly dims: readonly number[]; readonly data: DataOf[Type] };
}[DType];

export type Tensors = Readonly<Record<string, RuntimeTensor>>;

/** Little-endian weights in one flat file: where each lies, in bytes. */
export interface WeightFile {
  readonly path: string;
  readonly entries: ReadonlyMap<string, { readonly offset: number; readonly bytes: number }>;
}

export interface RuntimeInfo {
  readonly name: "onnx" | "tfjs";
  /** Which kernels really run: `cpu` for onnxruntime; `tensorflow`, `wasm` or `cpu` for TensorFlow.js. */
  readonly backend: string;
  readonly version: string;
  readonly threads: number;
}

export interface Session {
  /**
   * Runs the graph on `feeds` (every input of the graph, zero-sized tensors allowed) and returns the outputs named by
   * `fetches`. Buffers of `feeds` may be reused as soon as it resolves; the results belong to the caller.
   */
  run(feeds: Tensors, fetches: readonly string[]): Promise<Record<string, RuntimeTensor>>;
  close(): Promise<void>;
}

export interface Runtime {
  readonly info: RuntimeInfo;
  /** Throws when the graph cannot be loaded; the message names the graph. */
  load(graph: Graph, weights: WeightFile): Promise<Session>;
}

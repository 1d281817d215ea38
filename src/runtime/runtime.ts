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

/** What a session keeps to itself; what a runtime cannot choose, it ignores. */
export interface LoadOptions {
  /**
   * Weights are copied once into the order that products read them in. Without it they stay in their file, which is
   * mapped and so shared, and each product orders them anew.
   */
  readonly packed?: boolean;
  /**
   * `planned`: a run's memory is laid out once for each shape of inputs, and kept; for runs of few shapes. `kept`: it is
   * kept without a plan, which is as fast, and takes half as much if shapes vary. `returned`: the C library gets it back
   * after a run.
   */
  readonly memory?: "planned" | "kept" | "returned";
}

export interface Runtime {
  readonly info: RuntimeInfo;
  /** Throws when the graph cannot be loaded; the message names the graph. By default packed and planned. */
  load(graph: Graph, weights: WeightFile, options?: LoadOptions): Promise<Session>;
}

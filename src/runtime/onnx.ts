import { randomUUID } from "node:crypto";
import { rm, writeFile } from "node:fs/promises";
import { basename, dirname, join } from "node:path";
import * as ort from "onnxruntime-node";
import { encodeGraph } from "../graph/encode.ts";
import type { DataOf, DType, Graph } from "../graph/graph.ts";
import type { LoadOptions, Runtime, RuntimeInfo, RuntimeTensor, Session, WeightFile } from "./runtime.ts";

/** onnxruntime on the CPU. One session serves prefill and decode: every size of the graph is symbolic. */
export function createOnnxRuntime({ threads }: { threads: number }): Runtime {
  const info: RuntimeInfo = {
    name: "onnx",
    backend: "cpu",
    version: ort.env.versions.node ?? "unknown",
    threads,
  };
  return {
    info,
    load: async (graph, weights, options) => {
      const session = await open(graph, weights, threads, options);
      return new OnnxSession(graph, session);
    },
  };
}

/**
 * Between two operators a thread spins for the moment that waking it would cost (measured: 1.1 to 1.4 times the tokens
 * when decoding); any longer, or between two runs, it would take the cores from the HTTP server and from training.
 */
const waiting = { intra_op: { allow_spinning: "1", spin_duration_us: "100" }, force_spinning_stop: "1" };

/** External data must lie in the model's folder, so the model is written into the folder of its weights for a moment. */
async function open(
  graph: Graph,
  weights: WeightFile,
  threads: number,
  { packed = true, memory = "planned" }: LoadOptions = {},
): Promise<ort.InferenceSession> {
  const bytes = encodeGraph(graph, name => {
    const entry = weights.entries.get(name);
    if (!entry) throw new Error(`graph ${graph.name}: the weight file has no ${name}`);
    return { location: basename(weights.path), ...entry };
  });
  const model = join(dirname(weights.path), `.${graph.name}-${randomUUID()}.onnx`);
  try {
    await writeFile(model, bytes);
    return await ort.InferenceSession.create(model, {
      intraOpNumThreads: threads,
      interOpNumThreads: 1,
      executionMode: "sequential",
      graphOptimizationLevel: "all",
      enableCpuMemArena: memory !== "returned",
      enableMemPattern: memory === "planned",
      extra: { session: { ...waiting, disable_prepacking: packed ? "0" : "1" } },
    });
  } catch (error) {
    throw new Error(`graph ${graph.name} does not load: ${(error as Error).message}`, { cause: error });
  } finally {
    await rm(model, { force: true });
  }
}

class OnnxSession implements Session {
  readonly #graph: Graph;
  readonly #session: ort.InferenceSession;

  constructor(graph: Graph, session: ort.InferenceSession) {
    this.#graph = graph;
    this.#session = session;
  }

  async run(feeds: Readonly<Record<string, RuntimeTensor>>, fetches: readonly string[]) {
    const inputs: Record<string, ort.Tensor> = {};
    for (const { name } of this.#graph.inputs) {
      const tensor = feeds[name];
      if (!tensor) throw new Error(`graph ${this.#graph.name}: input ${name} is missing`);
      inputs[name] = new ort.Tensor(tensor.type, tensor.data as Float32Array, tensor.dims);
    }
    const outputs = await this.#session.run(inputs, [...fetches]);
    return Object.fromEntries(
      Object.entries(outputs).map(([name, { type, dims, data }]) => [
        name,
        { type, dims, data: data as DataOf[DType] } as RuntimeTensor,
      ]),
    );
  }

  async close(): Promise<void> {
    await this.#session.release();
  }
}

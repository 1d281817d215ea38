/** Finds the fastest TensorFlow.js that this machine can run. */
import { createRequire } from "node:module";
import { dirname } from "node:path";
import util from "node:util";
import type * as tfjs from "@tensorflow/tfjs-core";

export type Backend = "tensorflow" | "wasm" | "cpu";
type TensorFlow = typeof tfjs;

// All of TensorFlow.js is CommonJS in Node: through `require` its packages share one copy of the core.
const require = createRequire(import.meta.url);

/**
 * TensorFlow.js with the first backend of `order` that starts: libtensorflow (`npm run build:tfjs-node`), WebAssembly,
 * plain JavaScript. `why` says what went wrong with those before it.
 */
export async function startBackend(
  threads: number,
  order: readonly Backend[],
): Promise<{ tf: TensorFlow; backend: Backend; version: string; threads: number; why: string[] }> {
  const why: string[] = [];
  for (const backend of order) {
    try {
      const { tf, version } = await start[backend](threads);
      if (!(await tf.setBackend(backend))) throw new Error("it did not initialise");
      // TensorFlow.js uses no threads in Node outside libtensorflow.
      return { tf, backend, version, threads: backend === "tensorflow" ? threads : 1, why };
    } catch (error) {
      why.push(`${backend}: ${(error as Error).message.split("\n")[0]}`);
    }
  }
  throw new Error(`TensorFlow.js does not start: ${why.join("; ")}`);
}

interface Started {
  tf: TensorFlow;
  version: string;
}

const core = (): TensorFlow => {
  const tf: TensorFlow = require("@tensorflow/tfjs-core");
  // Leaves out the banner that recommends the native package.
  tf.enableProdMode();
  return tf;
};

const start: { readonly [Name in Backend]: (threads: number) => Started | Promise<Started> } = {
  tensorflow: threads => {
    // Node 23 removed what tfjs-node 4.22 calls.
    const old = util as unknown as Record<string, unknown>;
    old.isNullOrUndefined ??= (value: unknown) => value === null || value === undefined;
    old.isArray ??= Array.isArray;
    // libtensorflow reads these once. In a worker thread process.env is a copy that it does not see: set them outside.
    process.env.TF_CPP_MIN_LOG_LEVEL ??= "2";
    process.env.TF_NUM_INTRAOP_THREADS ??= String(threads);
    process.env.TF_NUM_INTEROP_THREADS ??= "1";
    const tf = core();
    const node = require("@tensorflow/tfjs-node") as { version: Record<string, string> };
    return { tf, version: node.version["tfjs-node"] ?? tf.version_core };
  },
  wasm: () => {
    const tf = core();
    const path = require.resolve("@tensorflow/tfjs-backend-wasm");
    const wasm = require(path) as { setWasmPaths(prefix: string): void; version_wasm: string };
    wasm.setWasmPaths(`${dirname(path)}/`);
    return { tf, version: wasm.version_wasm };
  },
  cpu: () => {
    const tf = core();
    const cpu = require("@tensorflow/tfjs-backend-cpu") as { version_cpu: string };
    return { tf, version: cpu.version_cpu };
  },
};

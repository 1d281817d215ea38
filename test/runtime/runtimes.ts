import { createRequire } from "node:module";
import { createOnnxRuntime } from "../../src/runtime/onnx.ts";
import type { Runtime, WeightFile } from "../../src/runtime/runtime.ts";
import { createTfjsRuntime } from "../../src/runtime/tfjs.ts";

/** Whether `npm run build:tfjs-node` has run here. */
export function nativeIsBuilt(): boolean {
  const require = createRequire(import.meta.url);
  try {
    require.resolve("@tensorflow/tfjs-node/lib/napi-v8/tfjs_binding.node");
    return true;
  } catch {
    return false;
  }
}

/** Both runtimes, TensorFlow.js on every backend that is here. */
export async function allRuntimes(): Promise<{ name: string; runtime: Runtime }[]> {
  const backends = [...(nativeIsBuilt() ? (["tensorflow"] as const) : []), "wasm", "cpu"] as const;
  const tfjs = backends.map(async backend => ({
    name: `tfjs ${backend}`,
    runtime: await createTfjsRuntime({ threads: 2, backends: [backend] }),
  }));
  return [{ name: "onnx", runtime: createOnnxRuntime({ threads: 2 }) }, ...(await Promise.all(tfjs))];
}

/** For graphs without weights: onnxruntime writes its model beside this path. */
export const noWeights = (folder: string): WeightFile => ({ path: `${folder}/none`, entries: new Map() });

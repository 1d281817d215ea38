import { createOnnxRuntime } from "./onnx.ts";
import type { Runtime, RuntimeInfo } from "./runtime.ts";

/** The runtime that the settings name; TensorFlow.js is loaded only when it is wanted. */
export async function createRuntime(name: RuntimeInfo["name"], threads: number): Promise<Runtime> {
  if (name === "onnx") return createOnnxRuntime({ threads });
  const { createTfjsRuntime } = await import("./tfjs.ts");
  return createTfjsRuntime({ threads });
}

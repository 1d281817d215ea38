import { execFileSync } from "node:child_process";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { fileURLToPath } from "node:url";
import { describe, expect, test } from "vitest";
import { GraphBuilder } from "../../src/graph/builder.ts";
import { createTfjsRuntime } from "../../src/runtime/tfjs.ts";
import { nativeIsBuilt, noWeights } from "./runtimes.ts";

const built = nativeIsBuilt();
const advice = "tfjs-node's native binding is not built: npm run build:tfjs-node";
if (!built) console.warn(`LEFT OUT: the native TensorFlow.js runtime. ${advice}`);

test("the binding is there where it is expected", () => {
  if (process.env.FOREWORD_EXPECT_TFJS_NODE === "1") expect(built, advice).toBe(true);
});

describe.skipIf(!built)("native TensorFlow.js", () => {
  test("is chosen first, is tfjs-node's own backend, and computes", async () => {
    const runtime = await createTfjsRuntime({ threads: 2 });
    expect(runtime.info).toMatchObject({ name: "tfjs", backend: "tensorflow", threads: 2 });

    const tf = createRequire(import.meta.url)(
      "@tensorflow/tfjs-core",
    ) as typeof import("@tensorflow/tfjs-core");
    const backend = tf.backend() as unknown as {
      binding: { TF_Version: string };
      executeSingleOutput(name: string, ...rest: unknown[]): unknown;
    };
    expect(backend.constructor.name).toBe("NodeJSKernelBackend");
    expect(backend.binding.TF_Version).toMatch(/^2\./);

    const g = new GraphBuilder("square");
    const x = g.input("x", "float32", ["n", "n"]);
    const session = await runtime.load(g.finish({ y: g.op("MatMul", [x, x], {}) }), noWeights(tmpdir()));
    const ran: string[] = [];
    const execute = backend.executeSingleOutput;
    backend.executeSingleOutput = function (name, ...rest) {
      ran.push(name);
      return execute.call(this, name, ...rest);
    };
    try {
      const feed = { type: "float32" as const, dims: [2, 2], data: Float32Array.of(1, 2, 3, 4) };
      const { y } = await session.run({ x: feed }, ["y"]);
      expect([...y!.data]).toEqual([7, 10, 15, 22]);
      expect(ran.filter(name => name.includes("MatMul"))).toHaveLength(1);
    } finally {
      backend.executeSingleOutput = execute;
      await session.close();
    }
  });

  // A crash would take this process along, so each order has its own; the engine runs in a worker thread.
  test.each([
    ["main", "onnx", "tfjs"],
    ["main", "tfjs", "onnx"],
    ["worker", "onnx", "tfjs"],
    ["worker", "tfjs", "onnx"],
  ])("shares a process with onnxruntime: %s thread, %s first", (thread, ...order) => {
    const script = fileURLToPath(new URL("both.ts", import.meta.url));
    // Node 20 does not read TypeScript as a worker's entry, so the entry is JavaScript.
    const entry = `import("tsx/esm/api").then(tsx => { tsx.register(); return import(${JSON.stringify(script)}); })`;
    const options = JSON.stringify({ eval: true, workerData: order });
    const inWorker = `new (require("node:worker_threads").Worker)(${JSON.stringify(entry)}, ${options})`;
    const args = thread === "main" ? ["--import", "tsx", script, ...order] : ["-e", inWorker];
    const out = execFileSync(process.execPath, args, { encoding: "utf8" });
    expect(out.trim().split("\n").sort()).toEqual(["onnx cpu 7,10,15,22", "tfjs tensorflow 7,10,15,22"]);
  });
});

import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { GraphBuilder } from "../../src/graph/builder.ts";
import type { Graph } from "../../src/graph/graph.ts";
import type { RuntimeTensor, WeightFile } from "../../src/runtime/runtime.ts";
import { createTfjsRuntime } from "../../src/runtime/tfjs.ts";
import { narrow } from "../../src/runtime/tfjs-tensor.ts";
import { noWeights } from "./runtimes.ts";

const core = createRequire(import.meta.url)("@tensorflow/tfjs-core") as {
  memory(): { numTensors: number };
};

let folder: string;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "foreword-tfjs-"));
});
afterAll(() => rm(folder, { recursive: true, force: true }));

const floats = (dims: number[], ...data: number[]): RuntimeTensor => ({
  type: "float32",
  dims,
  data: Float32Array.from(data),
});

/** y = (x · w + 1) twice over, z = sigmoid(x): two outputs with a shared input, a weight and a constant. */
function twoOutputs(): Graph {
  const g = new GraphBuilder("two");
  const x = g.input("x", "float32", ["n", 2]);
  const w = g.weight("w", [2, 2]);
  const one = g.number(1);
  const once = g.op("Add", [g.op("MatMul", [x, w], {}), one], {});
  const twice = g.op("Add", [g.op("MatMul", [once, w], {}), one], {});
  return g.finish({ y: twice, z: g.op("Sigmoid", [x], {}) });
}

async function weightFile(): Promise<WeightFile> {
  const path = join(folder, "weights");
  // The weight does not begin at the file's start.
  await writeFile(path, new Uint8Array(Float32Array.of(9, 9, 1, 2, 3, 4).buffer));
  return { path, entries: new Map([["w", { offset: 8, bytes: 16 }]]) };
}

test("weights come from their place in the file, and only what is fetched is computed", async () => {
  const runtime = await createTfjsRuntime({ threads: 1 });
  const session = await runtime.load(twoOutputs(), await weightFile());
  const x = floats([1, 2], 1, -1);
  const both = await session.run({ x }, ["y", "z"]);
  // [1 -1]·[[1 2][3 4]] + 1 = [-1 -1]; [-1 -1]·w + 1 = [-3 -5].
  expect([...both.y!.data]).toEqual([-3, -5]);
  expect(both.z!.data[0]).toBeCloseTo(1 / (1 + Math.exp(-1)), 6);
  expect(Object.keys(await session.run({ x }, ["z"]))).toEqual(["z"]);
  await session.close();
});

test("a run leaves no tensor behind, a closed session none at all, a failed run none either", async () => {
  const runtime = await createTfjsRuntime({ threads: 1 });
  const before = core.memory().numTensors;
  const session = await runtime.load(twoOutputs(), await weightFile());
  const loaded = core.memory().numTensors;
  expect(loaded - before).toBe(2);
  const x = floats([2, 2], 1, 2, 3, 4);
  for (const fetches of [["y", "z"], ["y"], ["z"]]) await session.run({ x }, fetches);
  expect(core.memory().numTensors).toBe(loaded);

  const g = new GraphBuilder("failing");
  const twice = g.op("Add", [g.input("x", "float32", ["n", 2]), g.input("v", "float32", ["n?", 2])], {});
  const rows = g.op("Gather", [twice, g.input("i", "int64", ["k"])], { axis: 0 });
  const failing = await runtime.load(g.finish({ rows }), await weightFile());
  const i: RuntimeTensor = { type: "int64", dims: [1], data: BigInt64Array.of(9n) };
  await expect(failing.run({ x, v: x, i }, ["rows"])).rejects.toThrow("graph failing, Gather rows: index 9");
  expect(core.memory().numTensors).toBe(loaded);

  await session.close();
  expect(core.memory().numTensors).toBe(before);
});

test("memory in a run is bounded: a value goes when its last reader has run", async () => {
  const g = new GraphBuilder("chain");
  let x = g.input("x", "float32", ["n"]);
  for (let i = 0; i < 50; i++) x = g.op("Sigmoid", [x], {});
  const runtime = await createTfjsRuntime({ threads: 1 });
  const session = await runtime.load(g.finish({ y: x }), noWeights(folder));
  const tf = createRequire(import.meta.url)(
    "@tensorflow/tfjs-core",
  ) as typeof import("@tensorflow/tfjs-core");
  const before = tf.memory().numTensors;
  let most = 0;
  const engine = tf.engine();
  const endScope = engine.endScope;
  engine.endScope = function (this: typeof engine, ...rest: Parameters<typeof endScope>) {
    endScope.apply(this, rest);
    most = Math.max(most, tf.memory().numTensors - before);
  };
  try {
    await session.run({ x: floats([3], 1, 2, 3) }, ["y"]);
  } finally {
    engine.endScope = endScope;
  }
  expect(most).toBe(2);
  await session.close();
});

test("results belong to the caller: the next run does not change them", async () => {
  for (const backend of ["wasm", "cpu"] as const) {
    const runtime = await createTfjsRuntime({ threads: 1, backends: [backend] });
    const session = await runtime.load(twoOutputs(), await weightFile());
    const first = await session.run({ x: floats([1, 2], 1, -1) }, ["y"]);
    await session.run({ x: floats([1, 2], 5, 5) }, ["y"]);
    expect([...first.y!.data], backend).toEqual([-3, -5]);
    await session.close();
  }
});

test("what does not fit is refused by name", async () => {
  const runtime = await createTfjsRuntime({ threads: 1 });
  const none = noWeights(folder);
  await expect(runtime.load(twoOutputs(), none)).rejects.toThrow("graph two does not load");
  const short = { ...(await weightFile()), entries: new Map([["w", { offset: 16, bytes: 16 }]]) };
  await expect(runtime.load(twoOutputs(), short)).rejects.toThrow("the weight file ends inside w");
  const session = await runtime.load(twoOutputs(), await weightFile());
  await expect(session.run({}, ["y"])).rejects.toThrow("graph two: input x is missing");
  await expect(session.run({ x: floats([1, 3], 1, 2, 3) }, ["y"])).rejects.toThrow(
    "input x is float32[1, 3], not float32[n, 2]",
  );
  await expect(session.run({ x: floats([1, 2], 1, 2) }, ["nope"])).rejects.toThrow("no output nope");
  await session.close();
});

test("int64 that 32 bits cannot hold is an error, never a wrapped number", () => {
  expect([...narrow(BigInt64Array.of(-(2n ** 31n), 2n ** 31n - 1n))]).toEqual([-2147483648, 2147483647]);
  expect(() => narrow(BigInt64Array.of(2n ** 31n))).toThrow(RangeError);
});

test("a backend that does not start is passed over, and the error says why each failed", async () => {
  const runtime = await createTfjsRuntime({ threads: 3, backends: ["wasm", "cpu"] });
  expect(runtime.info).toMatchObject({ name: "tfjs", backend: "wasm", threads: 1 });
  await expect(createTfjsRuntime({ threads: 1, backends: [] })).rejects.toThrow("does not start");
});

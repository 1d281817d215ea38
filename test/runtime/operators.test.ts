import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import fc from "fast-check";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { GraphBuilder } from "../../src/graph/builder.ts";
import type { Shape } from "../../src/graph/dims.ts";
import { type Attributes, type OperatorName, operators } from "../../src/graph/operators.ts";
import type { Runtime, RuntimeTensor, Tensors, WeightFile } from "../../src/runtime/runtime.ts";
import { type Case, cases, Draw } from "./cases.ts";
import { type Plain, reference } from "./reference.ts";
import { allRuntimes, nativeIsBuilt, noWeights } from "./runtimes.ts";

let folder: string;
let weights: WeightFile;
let runtimes: { name: string; runtime: Runtime }[];

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "foreword-operators-"));
  weights = noWeights(folder);
  runtimes = await allRuntimes();
});
afterAll(() => rm(folder, { recursive: true, force: true }));

/** ONNX has no way to write an empty fixed axis: it is a symbolic one. */
const symbolic = (dims: readonly number[]): Shape => dims.map(size => (size === 0 ? "none" : size));

function shapeOf(op: OperatorName, attributes: object, dims: readonly number[], input: number): Shape {
  if (op !== "Split" || input > 0) return symbolic(dims);
  const { axis, sizes } = attributes as Attributes["Split"];
  return symbolic(dims).with(axis, sizes.map((_, i) => `part${i}`).join("+"));
}

function graphOf(op: OperatorName, { inputs, attributes }: Case) {
  const g = new GraphBuilder(op);
  const feeds: Tensors = Object.fromEntries(inputs.map((tensor, i) => [`x${i}`, tensor]));
  const values = inputs.map((tensor, i) =>
    g.input(`x${i}`, tensor.type, shapeOf(op, attributes, tensor.dims, i)),
  );
  const named = { ...attributes } as Record<string, unknown>;
  if (op === "Reshape" || op === "Expand")
    named.shape = symbolic((attributes as Attributes["Reshape"]).shape as number[]);
  if (op === "Split") {
    // As the graphs use it: parts that only the run knows.
    const { sizes } = attributes as Attributes["Split"];
    named.sizes = sizes.map((_, i) => `part${i}`);
  }
  const outputs = g.ops(op, values, named as unknown as Attributes[OperatorName]);
  return { graph: g.finish(Object.fromEntries(outputs.map((output, i) => [`y${i}`, output]))), feeds };
}

const plain = ({ dims, data }: RuntimeTensor): Plain => ({
  dims,
  data: Array.from(data as Float32Array, Number),
});

function expectClose(got: RuntimeTensor | undefined, wanted: Plain, where: string) {
  expect(got?.dims, where).toEqual(wanted.dims);
  const data = plain(got!).data;
  for (const [i, number] of wanted.data.entries()) {
    const near = Math.abs(data[i]! - number) <= 1e-5 * Math.max(1, Math.abs(number));
    if (!near) throw new Error(`${where}: element ${i} is ${data[i]}, not ${number}`);
  }
}

/**
 * onnxruntime 1.30 gives a product of something empty, whose batch axes are to be broadcast, a wrong shape, leaves it
 * unfilled, or refuses it. The one such product that a step makes is right: "an empty past shared by all rows" checks it.
 */
function brokenInOnnx(op: OperatorName, { inputs }: Case): boolean {
  if (op !== "MatMul" && op !== "FusedMatMul") return false;
  const [a, b] = inputs.map(({ dims }) => dims.slice(0, -2).join());
  return a !== b && inputs.some(({ dims }) => dims.includes(0));
}

async function check(op: OperatorName, one: Case) {
  const { graph, feeds } = graphOf(op, one);
  const wanted = (reference[op] as (inputs: Plain[], attributes: object) => Plain[])(
    one.inputs.map(plain),
    one.attributes,
  );
  const names = graph.outputs.map(output => output.name);
  for (const { name, runtime } of runtimes) {
    if (name === "onnx" && brokenInOnnx(op, one)) continue;
    const session = await runtime.load(graph, weights);
    try {
      const got = await session.run(feeds, names);
      for (const [i, output] of names.entries()) {
        expectClose(got[output], wanted[i]!, `${op} on ${name}`);
        expect(got[output]!.type, `${op} on ${name}`).toBe(graph.outputs[i]!.type);
      }
    } finally {
      await session.close();
    }
  }
}

test("every backend of this machine takes part", () => {
  const native = nativeIsBuilt() ? ["tensorflow"] : [];
  expect(runtimes.map(({ runtime }) => runtime.info.backend)).toEqual(["cpu", ...native, "wasm", "cpu"]);
});

describe("random calls agree with a naive reference on every runtime", () => {
  test.each(Object.keys(operators) as OperatorName[])("%s", async op => {
    await fc.assert(
      fc.asyncProperty(fc.gen(), gen => check(op, cases[op](new Draw(gen)))),
      { numRuns: 40, seed: 7 },
    );
  });
});

/** One run on every runtime: the outputs, by the runtime's name. */
async function everywhere(build: (g: GraphBuilder) => ReturnType<GraphBuilder["op"]>, feeds: Tensors) {
  const g = new GraphBuilder("whole");
  const graph = g.finish({ y: build(g) });
  const results: { name: string; y: RuntimeTensor }[] = [];
  for (const { name, runtime } of runtimes) {
    const session = await runtime.load(graph, weights);
    const { y } = await session.run(feeds, ["y"]);
    results.push({ name, y: y! });
    await session.close();
  }
  return results;
}

const ramp = (...dims: number[]): RuntimeTensor => {
  const length = dims.reduce((product, size) => product * size, 1);
  return { type: "float32", dims, data: Float32Array.from({ length }, (_, i) => Math.sin(i)) };
};

test("softmax: positions masked with -inf weigh exactly nothing", async () => {
  const x: RuntimeTensor = {
    type: "float32",
    dims: [3, 5],
    data: Float32Array.of(
      0.5,
      -Infinity,
      1.5,
      -Infinity,
      2,
      ...[-Infinity, -Infinity, 7, -Infinity, -Infinity],
      ...[1, 2, 3, 4, -Infinity],
    ),
  };
  const wanted = reference.Softmax([plain(x)], { axis: 1 })[0]!;
  const results = await everywhere(g => g.op("Softmax", [g.input("x", "float32", ["n", 5])], { axis: 1 }), {
    x,
  });
  for (const { name, y } of results) {
    expectClose(y, wanted, name);
    expect([y.data[1], y.data[3], y.data[14]], name).toEqual([0, 0, 0]);
  }
});

test.each([
  ["an empty past shared by all rows", 1, 0],
  ["an empty past of each row", 2, 0],
  ["a past shared by all rows", 1, 4],
  ["a past of each row", 2, 4],
])("attention over %s", async (_name, pastRows, past) => {
  const feeds: Tensors = {
    q: ramp(2, 2, 6, 3),
    past: ramp(pastRows, 2, past, 3),
    now: ramp(2, 2, 5, 3),
    parts: { type: "int64", dims: [2], data: BigInt64Array.of(BigInt(past), 5n) },
  };
  const turned = { alpha: 0.5, transA: 0, transB: 1 } as const;
  const results = await everywhere(g => {
    const q = g.input("q", "float32", ["rows", 2, "m", 3]);
    const before = g.input("past", "float32", ["rows?", 2, "past", 3]);
    const now = g.input("now", "float32", ["rows", 2, "new", 3]);
    const parts = g.input("parts", "int64", [2]);
    const scores = [before, now].map(key => g.op("FusedMatMul", [q, key], turned));
    const weights = g.op("Softmax", [g.op("Concat", scores, { axis: 3 })], { axis: 3 });
    const [onPast, onNow] = g.ops("Split", [weights, parts], { axis: 3, sizes: ["past", "new"] });
    return g.op("Add", [g.op("MatMul", [onPast!, before], {}), g.op("MatMul", [onNow!, now], {})], {});
  }, feeds);

  // The same with past and new joined by hand.
  const [q, before, now] = [plain(feeds.q!), plain(feeds.past!), plain(feeds.now!)];
  const rows = reference.Where(
    [{ dims: [1], data: [1] }, before, { dims: [2, 2, past, 3], data: Array(12 * past).fill(0) }],
    {},
  )[0]!;
  const keys = reference.Concat([rows, now], { axis: 2 })[0]!;
  const soft = reference.Softmax(reference.FusedMatMul([q, keys], turned), { axis: 3 })[0]!;
  const wanted = reference.MatMul([soft, keys], {})[0]!;
  for (const { name, y } of results) expectClose(y, wanted, name);
});

test("an index outside its axis is an error on every runtime, not a number", async () => {
  const g = new GraphBuilder("outside");
  const y = g.op("Gather", [g.input("x", "float32", ["n", 2]), g.input("i", "int64", ["k"])], { axis: 0 });
  const graph = g.finish({ y });
  for (const { name, runtime } of runtimes) {
    const session = await runtime.load(graph, weights);
    const run = session.run({ x: ramp(3, 2), i: { type: "int64", dims: [1], data: BigInt64Array.of(3n) } }, [
      "y",
    ]);
    await expect(run, name).rejects.toThrow(/Gather/);
    await session.close();
  }
});

test("a shape that only another tensor knows: two sizes of it are found at run time", async () => {
  const [x, like] = [ramp(6, 2), ramp(3, 2, 2)];
  const results = await everywhere(
    g => {
      const known = g.input("like", "float32", ["rows", "new", 2]);
      const shape = g.op("Shape", [known], { start: 0, end: 3 });
      const flat = g.input("x", "float32", ["new*rows", 2]);
      return g.op("Reshape", [flat, shape], { shape: ["rows", "new", 2] });
    },
    { x, like },
  );
  for (const { name, y } of results) expectClose(y, { dims: [3, 2, 2], data: [...plain(x).data] }, name);
});

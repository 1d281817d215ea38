/**
 * Every operator's derivative on random calls, against central differences of the naive reference in doubles, and
 * against TensorFlow.js's own tape.
 */
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import * as tf from "@tensorflow/tfjs-core";
import "@tensorflow/tfjs-backend-cpu";
import "@tensorflow/tfjs-core/dist/register_all_gradients.js";
import fc from "fast-check";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { gradient } from "../../../src/autodiff/gradient.ts";
import { rules } from "../../../src/autodiff/rules.ts";
import { GraphBuilder } from "../../../src/graph/builder.ts";
import type { Value } from "../../../src/graph/graph.ts";
import type { Attributes, OperatorName } from "../../../src/graph/operators.ts";
import { createOnnxRuntime } from "../../../src/runtime/onnx.ts";
import type { RuntimeTensor, Tensors, WeightFile } from "../../../src/runtime/runtime.ts";
import { type Case, cases, Draw } from "../../runtime/cases.ts";
import { type Plain, reference } from "../../runtime/reference.ts";
import { noWeights } from "../../runtime/runtimes.ts";
import { execute } from "../../support/tape.ts";

let folder: string;
let weights: WeightFile;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "foreword-gradient-"));
  weights = noWeights(folder);
  await tf.setBackend("cpu");
});
afterAll(() => rm(folder, { recursive: true, force: true }));

const smooth = (Object.keys(rules) as OperatorName[]).filter(op => typeof rules[op] !== "string");
const runtime = createOnnxRuntime({ threads: 1 });
const plain = ({ dims, data }: RuntimeTensor): Plain => ({
  dims,
  data: Array.from(data as Float32Array, Number),
});

function graphOf(op: OperatorName, { inputs, attributes }: Case) {
  const g = new GraphBuilder(op);
  const values = inputs.map((tensor, i) => g.input(`x${i}`, tensor.type, tensor.dims));
  const outputs = g.ops(op, values, attributes as Attributes[OperatorName]);
  return g.finish(Object.fromEntries(outputs.map((output, i) => [`y${i}`, output])));
}

async function check(op: OperatorName, one: Case, draw: Draw): Promise<void> {
  const graph = graphOf(op, one);
  const wrt = one.inputs.flatMap(({ type }, i) =>
    type === "float32" && !(op === "RotaryEmbedding" && i > 0) ? [i] : [],
  );
  fc.pre(wrt.length > 0 && one.inputs.every(({ dims }) => !dims.includes(0)));
  fc.pre(graph.outputs.every(({ type, shape }) => type === "float32" && !shape.includes(0)));
  const cotangents = graph.outputs.map(({ shape }) => draw.tensor(shape as number[]));

  const backward = gradient(graph, {
    of: Object.fromEntries(graph.outputs.map(({ name }) => [name, `d${name}`])),
    wrt: wrt.map(i => `x${i}`),
  });
  const given: Tensors = {
    ...Object.fromEntries(one.inputs.map((tensor, i) => [`x${i}`, tensor])),
    ...Object.fromEntries(cotangents.map((tensor, i) => [`dy${i}`, tensor])),
  };
  const session = await runtime.load(backward, weights);
  const found = await session.run(
    given,
    wrt.map(i => `d.x${i}`),
  );
  await session.close();

  const inputs = one.inputs.map(plain);
  const inner = (xs: Plain[]) =>
    (reference[op] as (inputs: Plain[], attributes: object) => Plain[])(xs, one.attributes)
      .map((y, i) => y.data.reduce((sum, value, at) => sum + value * Number(cotangents[i]!.data[at]!), 0))
      .reduce((sum, part) => sum + part, 0);
  const tape = tf.grads((...xs: tf.Tensor[]) => {
    const tensors = new Map(
      one.inputs.map((tensor, i) => [`x${i}`, wrt.includes(i) ? xs[wrt.indexOf(i)]! : asTensor(tensor)]),
    );
    const outputs = [...execute(tf, graph, tensors).values()];
    return tf.addN(outputs.map((y, i) => tf.sum(tf.mul(y, asTensor(cotangents[i]!)))));
  })(wrt.map(i => asTensor(one.inputs[i]!)));

  for (const [place, i] of wrt.entries()) {
    const mine = plain(found[`d.x${i}`]!);
    expect(mine.dims).toEqual(one.inputs[i]!.dims);
    const theirs = tape[place]!.dataSync();
    for (const [at, value] of inputs[i]!.data.entries()) {
      const moved = (by: number) =>
        inner(inputs.map((x, j) => (j === i ? { dims: x.dims, data: x.data.with(at, value + by) } : x)));
      const step = 1e-5;
      const expected = (moved(step) - moved(-step)) / (2 * step);
      const tolerance = 2e-4 * Math.max(1, Math.abs(expected));
      expect(Math.abs(mine.data[at]! - expected), `d.x${i}[${at}]`).toBeLessThan(tolerance);
      expect(Math.abs(mine.data[at]! - theirs[at]!), `d.x${i}[${at}], by tape`).toBeLessThan(tolerance);
    }
  }
}

const asTensor = ({ type, dims, data }: RuntimeTensor): tf.Tensor =>
  tf.tensor(
    type === "int64" ? Int32Array.from(data as BigInt64Array, Number) : (data as Float32Array),
    [...dims],
    type === "float32" ? "float32" : type === "int64" ? "int32" : "bool",
  );

/** Calls whose derivative is defined: smooth at the point, and along the axis that the graphs use. */
const narrowed: Partial<Record<OperatorName, (draw: Draw) => Case>> = {
  Sqrt: draw => ({ inputs: [draw.above(draw.dims(0, 3), 0.5)], attributes: {} }),
  Gather: draw => {
    const dims = Array.from({ length: draw.int(1, 3) }, () => draw.int(1, 4));
    const indices = draw.indices(draw.dims(1, 2), dims[0]!);
    return { inputs: [draw.tensor(dims), indices], attributes: { axis: 0 } };
  },
  Split: draw => {
    const one = cases.Split(draw);
    return { ...one, inputs: one.inputs.slice(0, 1) };
  },
};

describe("gradients agree with central differences and with TensorFlow.js", () => {
  test.each(smooth)("%s", async op => {
    await fc.assert(
      fc.asyncProperty(fc.gen(), gen => {
        const draw = new Draw(gen);
        return check(op, (narrowed[op] ?? cases[op])(draw), draw);
      }),
      { numRuns: 12, seed: 5 },
    );
  });
});

test("rows that are taken many times are added up right, and alike every time, on several threads", async () => {
  const [rows, taken, width] = [6, 4000, 257];
  const g = new GraphBuilder("g");
  const data = g.input("data", "float32", [rows, width]);
  const indices = g.input("indices", "int64", [taken]);
  const graph = g.finish({ y: g.op("Gather", [data, indices], { axis: 0 }) });
  const session = await createOnnxRuntime({ threads: 4 }).load(
    gradient(graph, { of: { y: "dy" }, wrt: ["data"] }),
    weights,
  );
  // Whole numbers, so that no order of adding them can round.
  const cotangent = Float32Array.from({ length: taken * width }, (_, i) => (i * 7919) % 13);
  const given: Tensors = {
    data: { type: "float32", dims: [rows, width], data: new Float32Array(rows * width) },
    indices: {
      type: "int64",
      dims: [taken],
      data: BigInt64Array.from({ length: taken }, (_, i) => BigInt((i * 31) % rows)),
    },
    dy: { type: "float32", dims: [taken, width], data: cotangent },
  };
  const expected = new Float32Array(rows * width);
  for (let i = 0; i < taken; i++)
    for (let j = 0; j < width; j++) expected[((i * 31) % rows) * width + j]! += cotangent[i * width + j]!;
  for (let run = 0; run < 20; run++) {
    const found = await session.run(given, ["d.data"]);
    expect(found["d.data"]!.data).toEqual(expected);
  }
  await session.close();
});

test.each([
  ["x σ(x)", (x: Value, sigmoid: Value) => [x, sigmoid]],
  ["σ(x) x", (x: Value, sigmoid: Value) => [sigmoid, x]],
])(
  "%s has the derivative of SiLU, from -90 to 90, also where the sigmoid is used again",
  async (_, order) => {
    const xs = Array.from({ length: 181 }, (_, i) => i - 90);
    const g = new GraphBuilder("g");
    const x = g.input("x", "float32", [xs.length]);
    const sigmoid = g.op("Sigmoid", [x], {});
    const graph = g.finish({ y: g.op("Add", [g.op("Mul", order(x, sigmoid), {}), sigmoid], {}) });
    const backward = gradient(graph, { of: { y: "dy" }, wrt: ["x"] });
    // Forwards two; backwards three for the sigmoid, four for SiLU, and their sum.
    expect(backward.nodes.length).toBe(10);
    const session = await runtime.load(backward, weights);
    const found = await session.run(
      {
        x: { type: "float32", dims: [xs.length], data: Float32Array.from(xs) },
        dy: { type: "float32", dims: [xs.length], data: new Float32Array(xs.length).fill(1) },
      },
      ["d.x"],
    );
    await session.close();
    for (const [i, at] of xs.entries()) {
      const s = 1 / (1 + Math.exp(-at));
      const expected = s + (at + 1) * s * (1 - s);
      expect(Math.abs((found["d.x"]!.data[i] as number) - expected), `at ${at}`).toBeLessThan(1e-5);
    }
  },
);

test("a sigmoid times the sigmoid of it has SiLU's derivative where x is the inner one", async () => {
  const g = new GraphBuilder("g");
  const inner = g.op("Sigmoid", [g.input("x", "float32", [3])], {});
  const graph = g.finish({ y: g.op("Mul", [inner, g.op("Sigmoid", [inner], {})], {}) });
  const session = await runtime.load(gradient(graph, { of: { y: "dy" }, wrt: ["x"] }), weights);
  const xs = [-2, 0.5, 3];
  const tensor = (data: number[]) => ({ type: "float32" as const, dims: [3], data: Float32Array.from(data) });
  const found = await session.run({ x: tensor(xs), dy: tensor([1, 1, 1]) }, ["d.x"]);
  await session.close();
  const sigmoid = (x: number) => 1 / (1 + Math.exp(-x));
  const f = (x: number) => sigmoid(x) * sigmoid(sigmoid(x));
  for (const [i, x] of xs.entries())
    expect(found["d.x"]!.data[i]).toBeCloseTo((f(x + 1e-5) - f(x - 1e-5)) / 2e-5, 5);
});

test("an operator without a derivative on the way is named", () => {
  const g = new GraphBuilder("g");
  const best = g.op("ArgMax", [g.input("x", "float32", [3])], { axis: 0, keepdims: 1 });
  const graph = g.finish({ best });
  expect(() => gradient(graph, { of: { best: "d" }, wrt: ["x"] })).toThrow(/ArgMax cannot be differentiated/);
});

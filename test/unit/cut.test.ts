import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, test } from "vitest";
import { GraphBuilder } from "../../src/graph/builder.ts";
import { cut } from "../../src/graph/cut.ts";
import type { Graph } from "../../src/graph/graph.ts";
import { printGraph } from "../../src/graph/print.ts";
import { feedWeights, signature } from "../../src/graph/signature.ts";
import { createOnnxRuntime } from "../../src/runtime/onnx.ts";
import type { RuntimeTensor, Tensors } from "../../src/runtime/runtime.ts";
import { noWeights } from "../runtime/runtimes.ts";

const column = (...data: number[]): RuntimeTensor => ({
  type: "float32",
  dims: [data.length, 1],
  data: Float32Array.from(data),
});

/** x → x·w0 + 2m → x·w1 + 2m: two layers that share what is made of `m`. */
function layered(widths: readonly number[] = [1, 1], by = 2): Graph {
  const g = new GraphBuilder("layered");
  const mask = g.op("Mul", [g.input("m", "float32", ["n", 1]), g.number(by)], {}, "mask");
  let x = g.input("x", "float32", ["n", 1]);
  for (const [layer, width] of widths.entries()) {
    x = g.within(`layer.${layer}`, () => {
      const product = g.op("Mul", [x, g.weight(`w.${layer}`, [width])], {}, "product");
      return g.op("Add", [product, mask], {}, "after");
    });
  }
  return g.finish({ y: x });
}

const layer = (graph: Graph, number: number, into = "after") =>
  cut(graph, {
    name: "layer",
    inputs: { hidden: number === 0 ? "x" : `layer.${number - 1}/after` },
    outputs: { [into]: number === 0 ? "layer.0/after" : "y" },
  });

async function run(graph: Graph, feeds: Tensors): Promise<number[]> {
  const folder = await mkdtemp(join(tmpdir(), "foreword-cut-"));
  try {
    const session = await createOnnxRuntime({ threads: 1 }).load(graph, noWeights(folder));
    const name = graph.outputs[0]!.name;
    const found = await session.run(feeds, [name]);
    await session.close();
    return [...(found[name]!.data as Float32Array)];
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

test("parts run one after the other are the whole", async () => {
  const graph = layered();
  const [x, m] = [column(1, 2, 3), column(10, 20, 30)];
  const [w0, w1] = [
    { type: "float32", dims: [1], data: Float32Array.of(3) } as const,
    { type: "float32", dims: [1], data: Float32Array.of(-1) } as const,
  ];
  const whole = await run(feedWeights(graph), { x, m, "w.0": w0, "w.1": w1 });
  expect(whole).toEqual([-3, -6, -9]);
  // What depends on `m` alone is not cut: each part computes it again.
  const first = await run(feedWeights(layer(graph, 0)), { hidden: x, m, "w.0": w0 });
  const second = await run(feedWeights(layer(graph, 1)), { hidden: column(...first), m, "w.1": w1 });
  expect(second).toEqual(whole);
});

test("a part has the inputs, weights and nodes that it reads, and no others", () => {
  const part = layer(layered(), 1);
  expect(part.inputs.map(({ name }) => name)).toEqual(["hidden", "m"]);
  expect(part.weights.map(({ name }) => name)).toEqual(["w.1"]);
  expect(part.nodes.map(({ op }) => op)).toEqual(["Mul", "Mul", "Add"]);
  expect(printGraph(part)).toContain("after  float32[n, 1]  = Add(");
});

test("an unknown value is named, and an input that nothing reads", () => {
  const graph = layered();
  expect(() => cut(graph, { name: "part", inputs: { a: "nowhere" }, outputs: { y: "y" } })).toThrow(
    "graph layered has no value nowhere",
  );
  expect(() => cut(graph, { name: "part", inputs: { a: "y" }, outputs: { b: "layer.0/after" } })).toThrow(
    "graph part never reads a",
  );
});

test("layers have one signature, whatever their weights are called; other arithmetic has another", () => {
  const graph = layered();
  expect(signature(layer(graph, 0))).toBe(signature(layer(graph, 1)));
  // Another output's name, another constant, another weight's shape.
  expect(signature(layer(graph, 0, "end"))).not.toBe(signature(layer(graph, 1)));
  expect(signature(layer(layered([1, 1], 3), 0))).not.toBe(signature(layer(graph, 0)));
  const wide = layered([1, 4]);
  expect(signature(layer(wide, 0))).not.toBe(signature(layer(wide, 1)));
});

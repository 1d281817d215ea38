import { mkdtemp, readdir, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import fc from "fast-check";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { GraphBuilder } from "../../src/graph/builder.ts";
import { add, broadcast, type Dim, evaluate, factors, multiply } from "../../src/graph/dims.ts";
import { reshapeTarget } from "../../src/graph/operators.ts";
import { printGraph } from "../../src/graph/print.ts";
import { reshape } from "../../src/graph/reshape.ts";
import { createOnnxRuntime } from "../../src/runtime/onnx.ts";
import type { WeightFile } from "../../src/runtime/runtime.ts";
import { noWeights } from "../runtime/runtimes.ts";

describe("sizes", () => {
  test("products and sums of names have one normal form", () => {
    expect(multiply("new", "rows")).toBe(multiply("rows", "new"));
    expect(multiply(2, "new", 3)).toBe("6*new");
    expect(multiply("past+new", "rows")).toBe("new*rows+past*rows");
    expect(multiply(0, "rows")).toBe(0);
    expect(add("past", "new")).toBe("new+past");
    expect(add("2*new", "new")).toBe("3*new");
    expect(add(2, 3)).toBe(5);
  });

  test("whatever is added and multiplied, its number in a run is the same", () => {
    const sizes = new Map([
      ["rows", 3],
      ["new", 5],
      ["past", 7],
    ]);
    const leaf = fc.oneof(fc.nat(4), fc.constantFrom("rows", "new", "past", "past+new", "2*new*rows"));
    const tree = fc.letrec<{ node: { dim: Dim; value: number } }>(tie => ({
      node: fc.oneof(
        { maxDepth: 4 },
        leaf.map(dim => ({ dim, value: evaluate(dim, sizes) })),
        fc
          .tuple(tie("node"), tie("node"))
          .map(([a, b]) => ({ dim: add(a.dim, b.dim), value: a.value + b.value })),
        fc
          .tuple(tie("node"), tie("node"))
          .map(([a, b]) => ({ dim: multiply(a.dim, b.dim), value: a.value * b.value })),
      ),
    })).node;
    fc.assert(
      fc.property(tree, tree, tree, (a, b, c) => {
        expect(evaluate(a.dim, sizes)).toBe(a.value);
        expect(add(add(a.dim, b.dim), c.dim)).toBe(add(c.dim, add(b.dim, a.dim)));
        expect(multiply(a.dim, add(b.dim, c.dim))).toBe(add(multiply(b.dim, a.dim), multiply(c.dim, a.dim)));
      }),
    );
  });

  test("broadcasting follows NumPy; a name? may be one or as many as the name", () => {
    expect(broadcast(["rows", 1, 4], ["new", 1])).toEqual(["rows", "new", 4]);
    expect(broadcast(["rows?", 3], ["rows", 3])).toEqual(["rows", 3]);
    expect(broadcast(["rows"], ["new"])).toBe(null);
    expect(broadcast([2], [3])).toBe(null);
    expect(broadcast([], ["n"])).toEqual(["n"]);
  });

  test("in a run every name has a number", () => {
    const sizes = new Map([
      ["rows", 2],
      ["new", 3],
      ["past", 0],
    ]);
    expect(evaluate("past+new", sizes)).toBe(3);
    expect(evaluate(multiply("past+new", 4, "rows"), sizes)).toBe(24);
    expect(evaluate(add(multiply("past+new", "rows"), 1), sizes)).toBe(7);
    expect(evaluate("3*new", sizes)).toBe(9);
    expect(() => evaluate("tokens", sizes)).toThrow("tokens is not known");
  });

  test("a product's factors are found again; a sum has none", () => {
    expect(factors("3*new*rows")).toEqual([3, "new", "rows"]);
    expect(factors("new")).toEqual(["new"]);
    expect(factors(4)).toEqual([4]);
    expect(factors(0)).toEqual([0]);
    expect(() => factors("new+past")).toThrow("is a sum");
  });

  test("a reshape's target keeps sizes by 0, has one -1 at most and as many elements", () => {
    expect(reshapeTarget(["rows", "new", 8], ["rows", "new", 2, 4])).toEqual([0, 0, 2, 4]);
    expect(reshapeTarget(["rows", "new", 8], ["new*rows", 8])).toEqual([-1, 8]);
    expect(() => reshapeTarget(["rows", 8], ["rows", 9])).toThrow("not as many elements");
    expect(() => reshapeTarget(["new*rows", 8], ["rows", "new", 8])).toThrow("more than one unknown size");
  });
});

describe("the builder refuses what does not fit, and says where", () => {
  const start = () => {
    const g = new GraphBuilder("g");
    return { g, x: g.input("x", "float32", ["rows", 4]), ids: g.input("ids", "int64", ["n"]) };
  };

  test.each<[string, (s: ReturnType<typeof start>) => unknown]>([
    [
      "layer.0/MatMul: MatMul: inner sizes differ",
      ({ g, x }) => g.within("layer.0", () => g.op("MatMul", [x, x], {})),
    ],
    ["does not broadcast with", ({ g, x }) => g.op("Add", [x, g.weight("w", [3])], {})],
    ["float32 meets int64", ({ g, x, ids }) => g.op("Add", [x, ids], {})],
    ["Add takes 2 to 2 inputs, not 1", ({ g, x }) => g.op("Add", [x], {})],
    ["input 1 is missing", ({ g, x }) => g.op("Add", [x, null], {})],
    ["indices must be int64", ({ g, x }) => g.op("Gather", [x, x], { axis: 0 })],
    ["axis 2 is outside rank 2", ({ g, x }) => g.op("Softmax", [x], { axis: 2 })],
    ["is int64, not float32", ({ g, ids }) => g.op("Sigmoid", [ids], {})],
    ["must be bool", ({ g, x }) => g.op("Where", [x, x, x], {})],
    ["no permutation", ({ g, x }) => g.op("Transpose", [x], { perm: [0, 0] })],
    ["does not join", ({ g, x }) => g.op("Concat", [x, g.weight("w", [2, 5])], { axis: 0 })],
    ["do not add up", ({ g, x }) => g.ops("Split", [x], { axis: 1, sizes: [1, 2] })],
    ["need their sizes as an int64 input", ({ g, x }) => g.ops("Split", [x], { axis: 0, sizes: ["rows"] })],
    [
      "does not fit",
      ({ g, x }) => g.op("RMSNormalization", [x, g.weight("w", [3])], { axis: -1, epsilon: 0 }),
    ],
    ["has 2 outputs; use ops()", ({ g, x }) => g.op("Split", [x], { axis: 1, sizes: [1, 3] })],
    ["the name x is taken", ({ g }) => g.input("x", "float32", [])],
    ["has 1 elements, its shape 2", ({ g }) => g.constant("c", "float32", [2], Float32Array.of(1))],
    [
      "is an output already",
      ({ g, x }) => ((y: ReturnType<typeof g.op>) => g.finish({ a: y, b: y }))(g.op("Sigmoid", [x], {})),
    ],
  ])("%s", (message, build) => {
    expect(() => build(start())).toThrow(message);
  });
});

/** A little of everything: a weight, constants, a label, a symbolic sum, a node that leads nowhere. */
function sample() {
  const g = new GraphBuilder("sample");
  const x = g.input("x", "float32", ["tokens", 4]);
  const unused = g.input("unused", "float32", ["tokens"]);
  const extra = g.input("extra", "float32", ["slots", 4]);
  const w = g.weight("w", [3, 4]);
  g.op("Sigmoid", [unused], {});
  const y = g.within("layer.0", () => {
    const joined = g.op("Concat", [x, extra], { axis: 0 }, "joined");
    const product = g.op("FusedMatMul", [joined, w], { alpha: 0.5, transA: 0, transB: 1 });
    return g.op("Add", [product, g.constant("bias", "float32", [3], Float32Array.of(1, 2, 3))], {});
  });
  return g.finish({ y });
}

test("a graph prints a line a node; what leads to no output is gone", () => {
  expect(printGraph(sample())).toMatchInlineSnapshot(`
    "graph sample  (3 nodes, 1 weights; sizes: tokens, slots, slots+tokens)
    inputs
      x  float32[tokens, 4]
      extra  float32[slots, 4]
    weights
      w  float32[3, 4]
    constants
      layer.0/bias  float32[3]  = 1, 2, 3
    nodes
      layer.0/joined  float32[slots+tokens, 4]  = Concat(x, extra) {axis: 0}
      layer.0/FusedMatMul  float32[slots+tokens, 3]  = FusedMatMul(layer.0/joined, @w) {alpha: 0.5, transA: 0, transB: 1}
      y  float32[slots+tokens, 3]  = Add(layer.0/FusedMatMul, layer.0/bias)
    outputs
      y  float32[slots+tokens, 3]
    "
  `);
});

test("a finished graph cannot be changed", () => {
  const graph = sample();
  expect(Object.isFrozen(graph) && graph.nodes.every(Object.isFrozen)).toBe(true);
});

describe("encoded, it loads in onnxruntime", () => {
  let folder: string;
  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), "foreword-graph-"));
  });
  afterAll(() => rm(folder, { recursive: true, force: true }));

  test("and computes what it says, with weights out of their file; the model's own file is gone again", async () => {
    const path = join(folder, "weights.bin");
    const w = Float32Array.of(1, 0, 0, 0, 0, 1, 0, 0, 1, 1, 1, 1);
    await writeFile(path, new Uint8Array(Float32Array.of(8, 8, ...w).buffer));
    const file: WeightFile = { path, entries: new Map([["w", { offset: 8, bytes: 48 }]]) };
    const session = await createOnnxRuntime({ threads: 1 }).load(sample(), file);
    expect(await readdir(folder)).toEqual(["weights.bin"]);
    // Weights that were mapped and then replaced on disk must not change a loaded session.
    await rm(path);
    for (const slots of [0, 1]) {
      const { y } = await session.run(
        {
          x: { type: "float32", dims: [1, 4], data: Float32Array.of(1, 2, 3, 4) },
          extra: { type: "float32", dims: [slots, 4], data: new Float32Array(4 * slots).fill(2) },
        },
        ["y"],
      );
      expect(y!.dims).toEqual([1 + slots, 3]);
      expect([...y!.data]).toEqual([1.5, 3, 8, ...(slots ? [2, 3, 7] : [])]);
    }
    await session.close();
  });

  test("a graph that asks for a weight which the file lacks names both", async () => {
    const file: WeightFile = { path: join(folder, "none"), entries: new Map() };
    await expect(createOnnxRuntime({ threads: 1 }).load(sample(), file)).rejects.toThrow(/sample.*no w/);
  });
});

describe("a reshape that ONNX has no notation for takes its sizes from the run", () => {
  test.each([
    { queries: 2, keys: 3 },
    { queries: 2, keys: 0 },
  ])("$queries queries, $keys keys", async ({ queries, keys }) => {
    const g = new GraphBuilder("reshape");
    const x = g.input("x", "float32", ["rows", 3, "queries", "keys"]);
    const other = g.input("other", "float32", ["queries"]);
    const together = reshape(g, x, ["rows", "3*queries", "keys"]);
    const apart = reshape(g, together, ["rows", 3, "queries", "keys"], other);
    const graph = g.finish({ together, apart });
    const folder = await mkdtemp(join(tmpdir(), "foreword-graph-"));
    const session = await createOnnxRuntime({ threads: 1 }).load(graph, noWeights(folder));
    const data = Float32Array.from({ length: 2 * 3 * queries * keys }, (_, i) => i);
    const feeds = {
      x: { type: "float32", dims: [2, 3, queries, keys], data },
      other: { type: "float32", dims: [queries], data: new Float32Array(queries) },
    } as const;
    const found = await session.run(feeds, ["together", "apart"]);
    expect(found.together).toEqual({ type: "float32", dims: [2, 3 * queries, keys], data });
    expect(found.apart).toEqual(feeds.x);
    await session.close();
    await rm(folder, { recursive: true });
  });

  test("a size that no value has is an error", () => {
    const g = new GraphBuilder("reshape");
    const x = g.input("x", "float32", ["rows", "2*new", "past"]);
    expect(() => reshape(g, x, ["rows", 2, "new", "past"])).toThrow("no value has the size new");
  });
});

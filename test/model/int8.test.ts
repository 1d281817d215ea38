/**
 * The int8 variant: smoothing folds exactly, codes come near what they stand for, a row's result is its own, prefixes
 * mean the same in every variant, and on SmolLM2 the gate's figures hold.
 */
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { architectures } from "../../src/backbone/architectures/index.ts";
import { float32, int64, layout } from "../../src/backbone/feeds.ts";
import { generationLoss } from "../../src/backbone/objective.ts";
import { type BackboneSource, openBackbone } from "../../src/backbone/source.ts";
import { Tokenizer } from "../../src/backbone/tokenizer.ts";
import { type CompiledBackbone, compileBackbone } from "../../src/compile/backbone.ts";
import { inOwnBasis } from "../../src/compile/basis.ts";
import { plainFeeds } from "../../src/compile/calibrate.ts";
import { serves, trains } from "../../src/compile/check.ts";
import { compileInt8, compileSmoothed } from "../../src/compile/int8.ts";
import { codesHere } from "../../src/compile/saturation.ts";
import { compileVariants } from "../../src/compile/variants.ts";
import { randomFrom } from "../../src/engine/sampler.ts";
import { GraphBuilder } from "../../src/graph/builder.ts";
import type { CodeType } from "../../src/graph/quantise.ts";
import { createOnnxRuntime } from "../../src/runtime/onnx.ts";
import type { Runtime } from "../../src/runtime/runtime.ts";
import { trainingGraph } from "../../src/training/graph.ts";
import { describeBackbone } from "../support/backbone.ts";
import { sharedCache } from "../support/compiled.ts";

const runtime = createOnnxRuntime({ threads: 2 });

describe("products of codes", () => {
  const [m, k, n] = [9, 96, 40];
  const random = randomFrom(3);
  const bytes = (count: number, least: number) =>
    Array.from({ length: count }, () => least + Math.floor(random() * 255));
  const [a, b] = [bytes(m * k, 1), bytes(k * n, -127)];

  /** What the runtime makes of them, with the weights' codes in one type. */
  async function product(type: CodeType): Promise<number[]> {
    const g = new GraphBuilder("product");
    const zero = g.constant("zero", "uint8", [], Uint8Array.of(128));
    const coded =
      type === "int8"
        ? g.constant("b", "int8", [k, n], Int8Array.from(b))
        : g.constant(
            "b",
            "uint8",
            [k, n],
            Uint8Array.from(b, code => code + 128),
          );
    const scales = g.constant("scales", "float32", [n], new Float32Array(n).fill(1));
    const operands = [g.input("a", "uint8", ["m", k]), coded, g.number(1), scales, zero];
    const out = g.op("MatMulIntegerToFloat", type === "int8" ? operands : [...operands, zero], {});
    const session = await runtime.load(g.finish({ out }), nowhere);
    const found = await session.run({ a: { type: "uint8", dims: [m, k], data: Uint8Array.from(a) } }, [
      "out",
    ]);
    await session.close();
    return [...(found.out!.data as Float32Array)];
  }
  const nowhere = { path: join(tmpdir(), "none.bin"), entries: new Map() };
  const exact = Array.from({ length: m * n }, (_, at) => {
    const [row, column] = [Math.floor(at / n), at % n];
    return Array.from({ length: k }, (_, i) => (a[row * k + i]! - 128) * b[i * n + column]!).reduce(
      (sum, each) => sum + each,
    );
  });

  test("are exact in the type that is chosen on this machine, and in uint8 on every one", async () => {
    const here = await codesHere(runtime, nowhere);
    expect(await product(here)).toEqual(exact);
    expect(await product("uint8")).toEqual(exact);
  });

  test("that saturate are noticed", async () => {
    // As pairs that are added in 16 bits.
    const saturating: Runtime = {
      ...runtime,
      load: async () => ({
        run: async ({ a }) => {
          const pairs = Math.min(255 * 127 * 2, 32_767) * (a!.dims[1]! / 2);
          return { product: float32([a!.dims[0]!, 32], new Float32Array(a!.dims[0]! * 32).fill(pairs)) };
        },
        close: async () => {},
      }),
    };
    expect(await codesHere(saturating, nowhere)).toBe("uint8");
  });
});
const names = ["llama", "llama3-rope", "mistral", "qwen2", "qwen3", "gpt2"];
const P = 3;

describe.each(names)("%s", name => {
  let folder: string;
  let source: BackboneSource;
  let plain: CompiledBackbone;
  let smoothed: CompiledBackbone;
  let int8: CompiledBackbone;

  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), "foreword-int8-"));
    source = await openBackbone(new URL(`../fixtures/reference/tiny/${name}`, import.meta.url).pathname);
    plain = await compileBackbone(source, folder, () => {});
    const codes = await codesHere(runtime, plain.weights);
    const context = (cache: string) => ({ runtime, encode, cache: join(folder, cache), codes });
    smoothed = await compileSmoothed(
      source,
      plain,
      context("smoothed"),
      () => null,
      () => {},
    );
    int8 = await compileInt8(source, plain, context("int8"), () => {});
  });
  afterAll(async () => {
    await source.close();
    await rm(folder, { recursive: true, force: true });
  });

  const encode = (text: string) =>
    Array.from(text.slice(0, 40), letter => letter.charCodeAt(0) % source.config.vocabSize);
  const rows = [
    [5, 1, 9, 30, 2, 7],
    [3, 3, 8],
  ];
  async function logits(
    variant: CompiledBackbone,
    ids: readonly (readonly number[])[],
  ): Promise<Float32Array> {
    const session = await runtime.load(variant.graph, variant.weights);
    const feeds = plainFeeds(ids, source.config, [...ids.flat().keys()]);
    const found = await session.run(feeds, ["logits"]);
    await session.close();
    return found.logits!.data as Float32Array;
  }
  const difference = (a: Float32Array, b: Float32Array) =>
    a.reduce((most, value, i) => Math.max(most, Math.abs(value - b[i]!)), 0);
  const spread = (a: Float32Array) => Math.sqrt(a.reduce((sum, value) => sum + value * value, 0) / a.length);

  test("smoothing changes no logit at fp32", async () => {
    expect(smoothed.valueScales!.some(scales => scales.some(scale => Math.abs(scale - 1) > 0.01))).toBe(true);
    expect(difference(await logits(smoothed, rows), await logits(plain, rows))).toBeLessThan(1e-4);
  });

  test.each(["as on this machine", "as where int8 saturates"])(
    "codes %s stand for their weights, and a row's logits do not depend on its batch",
    async where => {
      const { vocabSize } = source.config;
      const coding = { runtime, encode, cache: join(folder, "uint8"), codes: "uint8" } as const;
      const variant = where.includes("this") ? int8 : await compileInt8(source, plain, coding, () => {});
      const products = variant.graph.nodes.filter(({ op }) => op === "MatMulIntegerToFloat");
      expect(products.length).toBeGreaterThanOrEqual(3 * source.config.layers + 1);
      const [exact, coded] = [await logits(plain, rows), await logits(variant, rows)];
      const error = spread(exact.map((value, i) => value - coded[i]!)) / spread(exact);
      expect(error).toBeGreaterThan(0);
      expect(error).toBeLessThan(0.1);
      expect(await logits(variant, [rows[1]!])).toEqual(coded.subarray(rows[0]!.length * vocabSize));
    },
  );

  test("a prefix in the backbone's own basis has the same loss, and the same gradient, with smoothing and without", async () => {
    const { config } = source;
    const random = randomFrom(5);
    const numbers = (length: number) => Float32Array.from({ length }, () => random() - 0.5);
    const dims = [1, config.kvHeads, P, config.headDim];
    const prefix = Object.fromEntries(
      Array.from({ length: config.layers }, (_, layer) =>
        ["past_key", "past_value"].map(part => [
          `${part}.${layer}`,
          float32(dims, numbers(config.kvHeads * P * config.headDim)),
        ]),
      ).flat(),
    );
    const shapes = rows.map(({ length }) => ({ past: P, trunk: length, branches: [], length }));
    const feeds = {
      ...plainFeeds(rows, config, [0, 4, 7]),
      ...layout(shapes, P),
      ...prefix,
      next: int64([3, 1], [2, 9, 4]),
      gold: float32([3, 1], Float32Array.of(1, 0.5, 1)),
    };
    const step = architectures[config.architecture](config);
    const gradientOf = async (variant: CompiledBackbone) => {
      const loss = inOwnBasis(generationLoss(step), variant.valueScales);
      const graph = trainingGraph(loss, "prefix");
      const session = await runtime.load(variant.compile(graph), variant.weights);
      const found = await session.run(
        feeds,
        graph.outputs.map(output => output.name),
      );
      await session.close();
      return found;
    };
    const [a, b] = [await gradientOf(plain), await gradientOf(smoothed)];
    expect(Number(b.loss!.data[0])).toBeCloseTo(Number(a.loss!.data[0]), 4);
    for (const [output, { data }] of Object.entries(a)) {
      const error = difference(data as Float32Array, b[output]!.data as Float32Array);
      expect(error, output).toBeLessThan(1e-4 + 1e-3 * spread(data as Float32Array));
    }
  });
});

describeBackbone("int8 on SmolLM2", path => {
  test("its loss on text and its gradient pass the gate, and so it is what auto chooses", async () => {
    const source = await openBackbone(path);
    const tokenizer = Tokenizer.from((await source.tokenizerFiles())!, source.config.vocabSize);
    const encode = (text: string) => tokenizer.encode(text);
    const { chosen, check } = await compileVariants(
      source,
      { precision: "auto", runtime, encode, cache: sharedCache() },
      () => {},
    );
    await source.close();
    expect(check!.text_loss.int8).not.toBe(check!.text_loss.fp32);
    expect([serves(check!), trains(check!)], JSON.stringify(check)).toEqual([true, true]);
    expect(chosen.precision).toBe("int8");
  });
});

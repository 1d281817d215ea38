/**
 * The gradient of whole checkpoints with respect to what training moves: virtual tokens, and every layer's prefix. Rows
 * of several lengths, so that packing and padding are on the way; oracles are directional differences of the forward
 * pass, and TensorFlow.js's own tape over the same graph.
 */
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import * as tf from "@tensorflow/tfjs-core";
import "@tensorflow/tfjs-backend-cpu";
import "@tensorflow/tfjs-core/dist/register_all_gradients.js";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { gradient } from "../../src/autodiff/gradient.ts";
import { architectures } from "../../src/backbone/architectures/index.ts";
import { undone } from "../../src/backbone/architectures/step.ts";
import type { Segment } from "../../src/backbone/feeds.ts";
import {
  endOf,
  type Feeds,
  float32,
  int64,
  layout,
  segmentFeeds,
  startsOf,
} from "../../src/backbone/feeds.ts";
import { classificationLoss, EXCLUDED, generationLoss } from "../../src/backbone/objective.ts";
import { type BackboneSource, openBackbone } from "../../src/backbone/source.ts";
import { compileBackbone } from "../../src/compile/backbone.ts";
import { randomFrom } from "../../src/engine/sampler.ts";
import type { Graph } from "../../src/graph/graph.ts";
import { specialise } from "../../src/graph/specialise.ts";
import { createOnnxRuntime } from "../../src/runtime/onnx.ts";
import type { RuntimeTensor, WeightFile } from "../../src/runtime/runtime.ts";
import { execute } from "../support/tape.ts";

const folder = (name: string) =>
  fileURLToPath(new URL(`../fixtures/reference/tiny/${name}`, import.meta.url));
const names = ["llama", "llama3-rope", "mistral", "qwen2", "qwen3", "gpt2"];
const P = 3;
const lengths = [5, 3, 4];

describe.each(names)("%s", name => {
  let cache: string;
  let source: BackboneSource;
  let weights: WeightFile;
  const random = randomFrom(17);
  const numbers = (length: number, size = 0.5) =>
    Float32Array.from({ length }, () => (random() - 0.5) * size);

  beforeAll(async () => {
    await tf.setBackend("cpu");
    cache = await mkdtemp(join(tmpdir(), "foreword-gradient-"));
    source = await openBackbone(folder(name));
    ({ weights } = await compileBackbone(source, cache, () => {}));
  });
  afterAll(async () => {
    await source.close();
    await rm(cache, { recursive: true, force: true });
  });

  /** Three rows, each with two virtual tokens among its words, behind one prefix of P positions that all share. */
  function feeds(): Feeds {
    const { config } = source;
    const rows = lengths.map(length => ({ past: P, trunk: length, branches: [], length }));
    const segments = lengths.flatMap((length): Segment[] => [
      { virtual: numbers(2 * config.hiddenSize), count: 2 },
      { ids: Array.from({ length: length - 2 }, () => Math.floor(random() * config.vocabSize)) },
    ]);
    const ends = rows.map((row, index) => startsOf(rows)[index]! + endOf(row, -1));
    const dims = [1, config.kvHeads, P, config.headDim];
    const past = Array.from({ length: config.layers }, (_, layer) =>
      ["past_key", "past_value"].map(part => [
        `${part}.${layer}`,
        float32(dims, numbers(config.kvHeads * P * config.headDim)),
      ]),
    ).flat();
    return {
      ...segmentFeeds(segments, config.hiddenSize),
      ...layout(rows, P),
      ...Object.fromEntries(past),
      scored: int64([3], ends),
      candidates: int64([4], [1, 5, 7, 11]),
      sampled: int64([3], ends),
      excluded: float32([3, 4], Float32Array.from([0, 0, EXCLUDED, EXCLUDED, 0, 0, 0, 0, EXCLUDED, 0, 0, 0])),
      gold: float32([3, 4], Float32Array.from([1, 0, 0, 0, 0.1, 0.1, 0.7, 0.1, 0, 0, 0, 1])),
    };
  }

  const step = () => specialise(architectures[source.config.architecture](source.config), { "rows?": 1 });
  const pastNames = () =>
    Array.from({ length: source.config.layers }, (_, layer) => [
      `past_key.${layer}`,
      `past_value.${layer}`,
    ]).flat();

  async function run(graph: Graph, given: Feeds, wanted: string[]): Promise<Record<string, RuntimeTensor>> {
    const session = await createOnnxRuntime({ threads: 1 }).load(graph, weights);
    try {
      return await session.run(given, wanted);
    } finally {
      await session.close();
    }
  }

  const dot = (a: Float32Array, b: Float32Array) => a.reduce((sum, value, i) => sum + value * b[i]!, 0);

  /** The five-point difference of L(θ + hv) along three random directions, against <gradient, v>. */
  async function checkDifferences(loss: Graph, wrt: string[], given: Feeds): Promise<void> {
    const backward = gradient(loss, { of: "loss", wrt, keep: ["loss"], undo: undone });
    const found = await run(
      backward,
      given,
      backward.outputs.map(output => output.name),
    );
    for (let direction = 0; direction < 3; direction++) {
      const along = new Map(wrt.map(input => [input, numbers(given[input]!.data.length, 2)]));
      const moved = async (by: number) => {
        const changed = { ...given };
        for (const [input, v] of along) {
          const { dims, data } = given[input]!;
          changed[input] = float32(
            dims,
            (data as Float32Array).map((value, i) => value + by * v[i]!),
          );
        }
        return Number((await run(loss, changed, ["loss"])).loss!.data[0]);
      };
      const h = 1e-3;
      const near = (await moved(h)) - (await moved(-h));
      const expected = (8 * near - (await moved(2 * h)) + (await moved(-2 * h))) / (12 * h);
      const mine = [...along].reduce(
        (sum, [input, v]) => sum + dot(found[`d.${input}`]!.data as Float32Array, v),
        0,
      );
      expect(Math.abs(mine - expected)).toBeLessThan(5e-3 + 0.01 * Math.abs(expected));
    }
  }

  test("classification, by virtual tokens and by every layer's prefix: central differences", async () => {
    await checkDifferences(classificationLoss(step()), ["virtual"], feeds());
    await checkDifferences(classificationLoss(step()), pastNames(), feeds());
  });

  test("generation, by virtual tokens and by every layer's prefix: central differences", async () => {
    const given = {
      ...feeds(),
      next: int64([3, 1], [2, 9, 4]),
      gold: float32([3, 1], Float32Array.of(1, 0.5, 1)),
    };
    await checkDifferences(generationLoss(step()), ["virtual", ...pastNames()], given);
  });

  test("classification: TensorFlow.js's own tape gives the same gradient", async () => {
    const loss = classificationLoss(step());
    const wrt = ["virtual", ...pastNames()];
    const given = feeds();
    const backward = gradient(loss, { of: "loss", wrt });
    const found = await run(
      backward,
      given,
      wrt.map(input => `d.${input}`),
    );

    const tensor = ({ type, dims, data }: RuntimeTensor) =>
      tf.tensor(
        type === "int64" ? Int32Array.from(data as BigInt64Array, Number) : (data as Float32Array),
        [...dims],
        type === "float32" ? "float32" : type === "int64" ? "int32" : "bool",
      );
    const fixed = new Map<string, tf.Tensor>();
    for (const { name: weight, shape } of loss.weights)
      fixed.set(weight, tf.tensor(await source.read(weight), [...shape]));
    for (const constant of loss.constants)
      fixed.set(
        constant.name,
        tensor({ type: constant.type, dims: constant.shape, data: constant.data } as RuntimeTensor),
      );
    for (const { name: input } of loss.inputs)
      if (!wrt.includes(input)) fixed.set(input, tensor(given[input]!));
    const { config } = source;
    const [rows, width] = given.pad!.dims as [number, number];
    const sizes = new Map([
      ["tokens", given.ids!.dims[0]!],
      ["rows", rows],
      ["new", width],
      ["past", P],
      ["slots", given.virtual!.dims[0]!],
      ["hidden", config.hiddenSize],
    ]);
    const tape = tf.grads((...xs: tf.Tensor[]) => {
      const all = new Map([...fixed, ...wrt.map((input, i) => [input, xs[i]!] as const)]);
      return tf.sum(execute(tf, loss, all, sizes).get("loss")!);
    })(wrt.map(input => tensor(given[input]!)));
    for (const [i, input] of wrt.entries()) {
      const [mine, theirs] = [found[`d.${input}`]!.data as Float32Array, tape[i]!.dataSync() as Float32Array];
      const size = Math.sqrt(dot(theirs, theirs));
      const error = Math.sqrt(mine.reduce((sum, value, at) => sum + (value - theirs[at]!) ** 2, 0));
      expect(error, input).toBeLessThan(1e-3 * size + 1e-6);
    }
  });

  test("no frozen weight gets a gradient: one product more a linear layer, and none in a weight's shape", () => {
    const loss = classificationLoss(step());
    const backward = gradient(loss, { of: "loss", wrt: pastNames(), undo: undone });
    const gemms = (graph: Graph) => graph.nodes.filter(({ op }) => op === "Gemm").length;
    // The way back ends at layer 0's past: its queries' and keys' projections are not on it.
    expect(gemms(backward)).toBeLessThanOrEqual(2 * gemms(loss));
    const shapes = new Set(
      loss.weights.filter(({ shape }) => shape.length === 2).map(({ shape }) => shape.join()),
    );
    const added = backward.nodes.slice(loss.nodes.length).flatMap(node => node.outputs);
    for (const { name: value, shape } of added) expect(shapes.has(shape.join()), value).toBe(false);
  });
});

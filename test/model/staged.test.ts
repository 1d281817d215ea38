/** Gradients in parts, a layer or a lead, against one run of the whole gradient graph, on checkpoints of every architecture. */
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { architectures } from "../../src/backbone/architectures/index.ts";
import { keepingGraph } from "../../src/backbone/kept.ts";
import { classificationLoss, generationLoss } from "../../src/backbone/objective.ts";
import { type BackboneSource, openBackbone } from "../../src/backbone/source.ts";
import { type CompiledBackbone, compileBackbone } from "../../src/compile/backbone.ts";
import { compileSmoothed } from "../../src/compile/int8.ts";
import { Batch } from "../../src/engine/batch.ts";
import { randomFrom } from "../../src/engine/sampler.ts";
import type { PrefillResult } from "../../src/engine/work.ts";
import { createOnnxRuntime } from "../../src/runtime/onnx.ts";
import type { Runtime } from "../../src/runtime/runtime.ts";
import { microBatches, type Parameter } from "../../src/training/batches.ts";
import { runBytes, WHOLE_BYTES } from "../../src/training/bytes.ts";
import {
  type Gradient,
  type GradientOptions,
  openGradients,
  staged,
  whole,
} from "../../src/training/gradients.ts";
import type { Method } from "../../src/training/graph.ts";
import { gradientsBehind } from "../../src/training/lead.ts";
import type { TrainingRow } from "../../src/training/rows.ts";
import { prefixFrom } from "../../src/training/start.ts";
import { sharedCache } from "../support/compiled.ts";
import { describeShallow } from "../support/shallow.ts";

const folder = (name: string) =>
  fileURLToPath(new URL(`../fixtures/reference/tiny/${name}`, import.meta.url));

type Objective = "classification" | "generation";

/** What one backbone's tests share; without `kept`, what is compiled is theirs alone. */
function onBackbone(path: string, lengths: readonly number[], positions: number, kept?: string) {
  let cache: string;
  let source: BackboneSource;
  let compiled: CompiledBackbone;
  const loaded: string[] = [];
  const random = randomFrom(5);
  const below = (count: number) => Math.floor(random() * count);

  beforeAll(async () => {
    cache = kept ?? (await mkdtemp(join(tmpdir(), "foreword-staged-")));
    source = await openBackbone(path);
    compiled = await compileBackbone(source, cache, () => {});
  });
  afterAll(async () => {
    await source.close();
    if (!kept) await rm(cache, { recursive: true, force: true });
  });

  function parametersOf(method: Method): Parameter[] {
    const { layers, kvHeads, headDim, hiddenSize } = source.config;
    const filled = (input: string, dims: number[]): Parameter => {
      const length = dims.reduce((product, size) => product * size, 1);
      return { input, dims, data: Float32Array.from({ length }, () => (random() - 0.5) / 2) };
    };
    if (method === "soft") return [filled("virtual", [positions, hiddenSize])];
    return Array.from({ length: layers }, (_, layer) =>
      ["past_key", "past_value"].map(part => filled(`${part}.${layer}`, [1, kvHeads, positions, headDim])),
    ).flat();
  }

  /** Rows of several lengths; where virtual tokens are trained, each row has them before its words. */
  function rowsOf(method: Method, objective: Objective): TrainingRow[] {
    return lengths.map(length => {
      const words = { ids: Array.from({ length }, () => below(source.config.vocabSize)) };
      const soft = { soft: { from: 0, length: positions } };
      const segments = (method === "soft" ? [soft, words] : [words]) as TrainingRow["segments"];
      const total = length + (method === "soft" ? positions : 0);
      const last = total - 1;
      return {
        segments,
        length: total,
        decisions:
          objective === "classification"
            ? [
                { at: last - 1, candidates: [1, 5, 7], weights: [0.1, 0.8, 0.1] },
                { at: last, candidates: [2, 5], weights: [1, 0] },
              ]
            : [],
        next:
          objective === "generation"
            ? Array.from({ length: length - 1 }, (_, i) => ({
                at: last - i,
                token: i + 1,
                weight: 1 / length,
              }))
            : [],
      };
    });
  }

  const runtime = (): Runtime => {
    const inner = createOnnxRuntime({ threads: 2 });
    return {
      ...inner,
      load: (graph, ...rest) => {
        loaded.push(graph.name);
        return inner.load(graph, ...rest);
      },
    };
  };
  function optionsOf(method: Method, objective: Objective): GradientOptions {
    const { config } = source;
    const step = architectures[config.architecture](config);
    const loss = objective === "classification" ? classificationLoss(step) : generationLoss(step);
    return { runtime: runtime(), compiled, config, loss, method, parameters: parametersOf(method) };
  }
  async function gradientOf(
    open: typeof staged,
    options: GradientOptions,
    rows: TrainingRow[],
  ): Promise<Gradient> {
    const gradients = await open(options);
    try {
      return await gradients.run(rows, 0.5);
    } finally {
      await gradients.close();
    }
  }
  /** The same backbone with activations' scales moved into its weights, values' among them. */
  function smooth(): Promise<CompiledBackbone> {
    const encode = (text: string) =>
      Array.from(text.slice(0, 40), letter => letter.charCodeAt(0) % source.config.vocabSize);
    const context = { runtime: runtime(), encode, cache: join(cache, "smoothed") };
    return compileSmoothed(
      source,
      compiled,
      context,
      () => null,
      () => {},
    );
  }
  /** Keys and values of some tokens, as a variant has them. */
  async function read(ids: number[], { graph, weights }: Pick<CompiledBackbone, "graph" | "weights">) {
    const session = await runtime().load(keepingGraph(graph, source.config.layers), weights);
    const work = { past: [], segments: [{ ids }], branches: [], scored: [], sampled: [], keep: true };
    const [{ kept }] = (await new Batch(session, source.config).prefill([work])) as [PrefillResult];
    await session.close();
    return kept!;
  }
  return { optionsOf, rowsOf, gradientOf, loaded, smooth, read };
}

/** |a - b| over |b|, of all tensors together. */
function distance(a: readonly Float32Array[], b: readonly Float32Array[]): number {
  let [difference, size] = [0, 0];
  for (const [index, tensor] of b.entries()) {
    expect(a[index]!.length).toBe(tensor.length);
    for (const [at, value] of tensor.entries()) {
      difference += (a[index]![at]! - value) ** 2;
      size += value ** 2;
    }
  }
  expect(size).toBeGreaterThan(0);
  return Math.sqrt(difference / size);
}

const combinations: [Method, Objective][] = [
  ["prefix", "classification"],
  ["prefix", "generation"],
  ["soft", "classification"],
  ["soft", "generation"],
];

describe.each(["llama", "llama3-rope", "mistral", "qwen2", "qwen3", "gpt2"])("%s", name => {
  const { optionsOf, rowsOf, gradientOf, loaded, smooth, read } = onBackbone(folder(name), [5, 3, 6], 4);

  test.each(combinations)("%s, %s: a layer at a time is the whole", async (method, objective) => {
    const options = optionsOf(method, objective);
    const rows = rowsOf(method, objective);
    const expected = await gradientOf(whole, options, rows);
    loaded.length = 0;
    // 96 words: the logits of three tokens at a time; 4 heads: the scores of two or three queries.
    const found = await gradientOf(
      staged,
      { ...options, logitBytes: 3 * 4 * 4 * 96, scoreBytes: 2 * 4 * 4 * 9 },
      rows,
    );
    expect(Math.abs(found.loss - expected.loss)).toBeLessThan(1e-5 * expected.loss);
    expect(distance(found.gradients, expected.gradients)).toBeLessThan(1e-5);
    // Three layers, one session each way for each half of a layer.
    expect(loaded.filter(graph => ["project", "finish"].includes(graph)).length).toBe(4);
  });

  test.each(["classification", "generation"] as const)(
    "%s: virtual tokens computed once for all rows are the whole, in every basis, whatever is staged behind them",
    async objective => {
      const options = optionsOf("soft", objective);
      const segments = [{ ids: [3, 9] }, { soft: { from: 0, length: 4 } }, { ids: [8] }];
      const lead: TrainingRow = { segments, length: 7, decisions: [], next: [] };
      const behind = rowsOf("prefix", objective);
      const moved = <Place extends { at: number }>(places: readonly Place[]) =>
        places.map(place => ({ ...place, at: place.at + lead.length }));
      const rows = behind.map(row => ({
        segments: [...segments, ...row.segments],
        length: lead.length + row.length,
        decisions: moved(row.decisions),
        next: moved(row.next),
      }));
      const smoothed = await smooth();
      expect(smoothed.valueScales).not.toBeNull();
      const ways = [{}, { bytes: 0 }, { compiled: smoothed }].map(other =>
        gradientsBehind(null, lead, { ...options, ...other }),
      );
      try {
        // The second time from other virtual tokens: nothing of the first stays.
        for (let time = 0; time < 2; time++) {
          const expected = await gradientOf(whole, options, rows);
          for (const way of ways) {
            const found = await way.run([behind.slice(0, 2), behind.slice(2)], 0.5);
            expect(Math.abs(found.loss - expected.loss)).toBeLessThan(1e-5 * expected.loss);
            expect(distance(found.gradients, expected.gradients)).toBeLessThan(1e-4);
          }
          const [{ data }] = options.parameters as [Parameter];
          for (const at of data.keys()) data[at] = data[at]! / 2 + 0.1;
        }
      } finally {
        for (const way of ways) await way.close();
      }
    },
  );

  test("virtual tokens behind a base: words that every row begins with, in every basis, led and not, staged and not", async () => {
    const options = optionsOf("soft", "classification");
    const base = [11, 4, 6];
    const soft = { soft: { from: 0, length: 4 } };
    const lead: TrainingRow = { segments: [soft], length: 4, decisions: [], next: [] };
    const behind = rowsOf("prefix", "classification");
    const shifted = (segments: TrainingRow["segments"], length: number) =>
      behind.map(row => ({
        ...row,
        segments: [...segments, ...row.segments],
        length: length + row.length,
        decisions: row.decisions.map(each => ({ ...each, at: each.at + length })),
      }));
    const expected = await gradientOf(whole, options, shifted([{ ids: base }, soft], 7));
    const smoothed = await smooth();
    const plain = options.compiled as CompiledBackbone;
    for (const compiled of [plain, smoothed]) {
      const block = await read(base, compiled);
      for (const bytes of [WHOLE_BYTES, 0]) {
        for (const [led, rows] of [
          [lead, behind],
          [null, shifted([soft], 4)],
        ] as const) {
          const gradients = gradientsBehind(block, led, { ...options, compiled, bytes });
          const found = await gradients.run([rows.slice(0, 1), rows.slice(1)], 0.5);
          await gradients.close();
          expect(Math.abs(found.loss - expected.loss)).toBeLessThan(1e-4 * expected.loss);
          expect(distance(found.gradients, expected.gradients)).toBeLessThan(1e-4);
        }
      }
    }
  });

  test("a prefix behind a base: the end of one long prefix, in every basis, staged and not", async () => {
    const options = optionsOf("prefix", "classification");
    const rows = rowsOf("prefix", "classification");
    const { kvHeads, headDim } = options.config;
    const [mine, smoothed] = [options.parameters, await smooth()];
    for (const compiled of [options.compiled as CompiledBackbone, smoothed]) {
      const block = await read([11, 4, 6], compiled);
      const own = prefixFrom(block, options.config, compiled.valueScales);
      const long = mine.map((each, index) => {
        const heads = Array.from({ length: kvHeads }, (_, head) => [
          ...own[index]!.data.subarray(head * 3 * headDim, (head + 1) * 3 * headDim),
          ...each.data.subarray(head * 4 * headDim, (head + 1) * 4 * headDim),
        ]);
        return { ...each, dims: [1, kvHeads, 7, headDim], data: Float32Array.from(heads.flat()) };
      });
      const expected = await gradientOf(whole, { ...options, compiled, parameters: long }, rows);
      const ends = expected.gradients.map(data => data.filter((_, at) => at % (7 * headDim) >= 3 * headDim));
      for (const bytes of [WHOLE_BYTES, 0]) {
        const gradients = gradientsBehind(block, null, { ...options, compiled, bytes });
        const found = await gradients.run([rows], 0.5);
        await gradients.close();
        expect(Math.abs(found.loss - expected.loss)).toBeLessThan(1e-5 * expected.loss);
        expect(distance(found.gradients, ends)).toBeLessThan(1e-4);
      }
    }
  });

  test("rows that are together longer than the context are parts of their own", async () => {
    const options = optionsOf("prefix", "classification");
    const [row] = rowsOf("prefix", "classification") as [TrainingRow];
    const { maxPositions } = options.config;
    const many = Array<TrainingRow>(Math.floor(maxPositions / row.length) + 1).fill(row);
    const gradients = openGradients(options);
    try {
      expect([gradients.fits(many.slice(1)), gradients.fits(many)]).toEqual([true, false]);
      const parts = microBatches(many, 10 * maxPositions, gradients.fits);
      expect(parts).toHaveLength(2);
      const [one, all] = [await gradients.run([[row]], 1), await gradients.run(parts, 1 / many.length)];
      expect(Math.abs(all.loss - one.loss)).toBeLessThan(1e-4 * one.loss);
    } finally {
      await gradients.close();
    }
  });

  test("what is staged follows from the rows, and repeats itself bit for bit", async () => {
    const options = optionsOf("prefix", "classification");
    const [long, short] = rowsOf("prefix", "classification") as [TrainingRow, TrainingRow];
    const bytes = (runBytes([short], 4, options.config) + runBytes([long], 4, options.config)) / 2;
    const once = async () => {
      loaded.length = 0;
      const gradients = openGradients({ ...options, bytes });
      try {
        expect([gradients.fits([short]), gradients.fits([long]), gradients.fits([short, short])]).toEqual([
          true,
          false,
          false,
        ]);
        const found = [await gradients.run([[short]], 1)];
        expect(loaded).toEqual([options.loss.name]);
        found.push(await gradients.run([[long]], 1));
        expect(loaded.slice(1).sort()).toEqual([
          "attention",
          "attention",
          "embed",
          "finish",
          "finish",
          "loss",
          "project",
          "project",
        ]);
        return found.flatMap(({ loss, gradients }) => [
          loss,
          ...gradients.map(data => Buffer.from(data.buffer)),
        ]);
      } finally {
        await gradients.close();
      }
    };
    expect(await once()).toEqual(await once());
  });
});

describeShallow("SmolLM2's first layers", path => {
  const { optionsOf, rowsOf, gradientOf } = onBackbone(path, [400], 16, sharedCache());

  test.each<[Method, Objective]>([
    ["prefix", "generation"],
    ["soft", "classification"],
  ])("%s, %s: a row of 400 tokens", async (method, objective) => {
    const options = optionsOf(method, objective);
    const rows = rowsOf(method, objective);
    const expected = await gradientOf(whole, options, rows);
    const found = await gradientOf(staged, options, rows);
    expect(Math.abs(found.loss - expected.loss)).toBeLessThan(1e-5 * expected.loss);
    expect(distance(found.gradients, expected.gradients)).toBeLessThan(1e-5);
  });
});

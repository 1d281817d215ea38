/** The attention that positions get and the words that virtual tokens are near, against slow forward passes. */
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { float32, int64, layout, segmentFeeds } from "../../src/backbone/feeds.ts";
import { attentionGraph, observed } from "../../src/backbone/observed.ts";
import { openBackbone } from "../../src/backbone/source.ts";
import { compileBackbone } from "../../src/compile/backbone.ts";
import { AttentionObserver } from "../../src/engine/attention.ts";
import { nearestTokens } from "../../src/engine/nearest.ts";
import { type OpenedCore, openCore } from "../../src/engine/open.ts";
import { writePromptFile } from "../../src/prompt/file.ts";
import { createRuntime } from "../../src/runtime/create.ts";
import { describeBackbone } from "../support/backbone.ts";
import { sharedCache } from "../support/compiled.ts";
import { type SlowPass, slowLlama } from "../support/slow-llama.ts";

const folder = new URL("../fixtures/reference/tiny/llama/", import.meta.url).pathname;
const sum = (numbers: ArrayLike<number>) => Array.from(numbers).reduce((a, b) => a + b, 0);
const meanOf = (numbers: readonly number[]) => sum(numbers) / numbers.length;

/** What the graph sums over heads, from a slow pass. */
const attended = (pass: SlowPass, layer: number, query: number, key: number) =>
  sum(pass.layers[layer]!.attention[query]!.map(head => head[key]!));

describe("attention on the past, in every layer of a small Llama", () => {
  let cache: string;
  beforeAll(async () => {
    cache = await mkdtemp(join(tmpdir(), "foreword-attention-"));
  });
  afterAll(() => rm(cache, { recursive: true, force: true }));

  test("the oracle computes what transformers computes", async () => {
    const source = await openBackbone(folder);
    const { ids, log_p_of_next } = JSON.parse(await readFile(join(folder, "reference.json"), "utf8"));
    const { logits } = await slowLlama(source, ids);
    for (const [index, logP] of (log_p_of_next as number[]).entries()) {
      const row = logits[index]!;
      const total = Math.log(sum(row.map(Math.exp)));
      expect(row[ids[index + 1]]! - total).toBeCloseTo(logP, 4);
    }
    await source.close();
  });

  test.each(["onnx", "tfjs"] as const)("%s", async runtimeName => {
    const source = await openBackbone(folder);
    const { config } = source;
    const { layers, kvHeads, headDim, hiddenSize } = config;
    const { ids } = JSON.parse(await readFile(join(folder, "reference.json"), "utf8"));
    const pass = await slowLlama(source, ids);
    const past = 5;
    const trunk = ids.length - past;
    // [kvHeads, past, headDim] from [token][kvHeads · headDim].
    const block = (rows: readonly Float64Array[]) =>
      Float32Array.from({ length: kvHeads * past * headDim }, (_, i) => {
        const [head, position] = [Math.floor(i / (past * headDim)), Math.floor(i / headDim) % past];
        return rows[position]![head * headDim + (i % headDim)]!;
      });
    const compiled = await compileBackbone(source, cache, () => {});
    const graph = attentionGraph(compiled.graph, layers);
    const session = await (await createRuntime(runtimeName, 2)).load(graph, compiled.weights);
    const caches = pass.layers.flatMap(({ keys, values }, layer) => [
      [`past_key.${layer}`, float32([1, kvHeads, past, headDim], block(keys))],
      [`past_value.${layer}`, float32([1, kvHeads, past, headDim], block(values))],
    ]);
    const scored = [trunk - 1, 0];
    const names = Array.from({ length: layers }, (_, layer) => observed(layer));
    const outputs = await session.run(
      {
        ...segmentFeeds([{ ids: ids.slice(past) }], hiddenSize),
        ...layout([{ past, trunk, branches: [], length: trunk }], past),
        ...Object.fromEntries(caches),
        scored: int64([2], scored),
      },
      names.flatMap(({ tokens, scored }) => [tokens, scored]),
    );
    for (const [layer, name] of names.entries()) {
      for (let key = 0; key < past; key++) {
        const each = Array.from({ length: trunk }, (_, query) => attended(pass, layer, past + query, key));
        expect(Number(outputs[name.tokens]!.data[key])).toBeCloseTo(sum(each), 4);
        for (const [row, query] of scored.entries())
          expect(Number(outputs[name.scored]!.data[row * past + key])).toBeCloseTo(each[query]!, 5);
      }
    }
    await session.close();
    await source.close();
  });
});

describeBackbone("on SmolLM2", path => {
  let opened: OpenedCore;
  beforeAll(async () => {
    opened = await openCore(
      {
        backbone: path,
        cache: sharedCache(),
        runtime: "onnx",
        threads: 2,
        precision: "fp32",
        cacheBytes: 2 ** 26,
        batchTokens: 512,
        queue: 64,
        load: { packed: false, memory: "returned" },
      },
      { load: async () => ({ template: "{{ input }}", parameters: null }) },
      () => {},
    );
  });
  afterAll(() => opened?.close());

  test("a hard prompt's positions are its words; the first layer's shares are those of a slow pass", async () => {
    const observer = new AttentionObserver(opened);
    const inputs = ["A warm film.", "Dull and long."];
    const template = "Review of a film: {{ input }}\nIt was";
    const found = await observer.observe({ template, parameters: null }, inputs);
    const words = opened.tokenizer.encode("Review of a film:");
    expect(found.positions).toEqual(
      words.map(id => ({ kind: "word", text: opened.tokenizer.decode([id], { skipSpecial: false }) })),
    );
    const rows = inputs.map(input => [
      ...opened.tokenizer.encode(` ${input}`),
      ...opened.tokenizer.encode("\nIt was"),
    ]);
    expect(found.tokens).toBe(sum(rows.map(row => row.length)));
    const passes = await Promise.all(rows.map(row => slowLlama(opened.source, [...words, ...row], 1)));
    const { heads, layers } = opened.source.config;
    expect(found.ofTokens).toHaveLength(layers);
    for (const key of words.keys()) {
      const tokens = passes.map((pass, index) =>
        meanOf(rows[index]!.map((_, query) => attended(pass, 0, words.length + query, key) / heads)),
      );
      const answer = passes.map((pass, index) =>
        attended(pass, 0, words.length + rows[index]!.length - 1, key),
      );
      expect(found.ofTokens[0]![key]).toBeCloseTo(meanOf(tokens), 4);
      expect(found.ofAnswer[0]![key]).toBeCloseTo(meanOf(answer) / heads, 4);
    }
    for (const shares of [...found.ofTokens, ...found.ofAnswer]) {
      expect(sum(shares)).toBeGreaterThan(0);
      expect(sum(shares)).toBeLessThan(1);
    }
    await observer.close();
  });

  test("a prefix that is a text's own keys and values gets what the text gets, in every layer", async () => {
    const observer = new AttentionObserver(opened);
    const { layers, kvHeads, headDim } = opened.source.config;
    const words = await opened.core.read(opened.tokenizer.encode("Is the review good? Review:"));
    const { length } = words;
    const dims = [layers, kvHeads, length, headDim] as const;
    const join = (parts: readonly Float32Array[]) => Float32Array.from(parts.flatMap(part => [...part]));
    const parameters = writePromptFile({
      kind: "prefix",
      template: "{{ input }} It was",
      backbone: opened.compiled.fingerprint,
      recipe: null,
      prefix: { dims, key: join(words.key), value: join(words.value) },
    });
    const prefix = await observer.observe({ template: "{{ input }} It was", parameters }, ["A warm film."]);
    const hard = await observer.observe(
      { template: "Is the review good? Review:{{ input }} It was", parameters: null },
      ["A warm film."],
    );
    expect(prefix.positions).toEqual(Array.from({ length }, () => ({ kind: "trained" })));
    expect(hard.positions.every(({ kind }) => kind === "word")).toBe(true);
    for (const layer of prefix.ofTokens.keys())
      for (const position of Array(length).keys())
        expect(prefix.ofTokens[layer]![position]).toBeCloseTo(hard.ofTokens[layer]![position]!, 4);
    await observer.close();
  });

  test("words are their own nearest, and a mixture is near its parts", async () => {
    const { tokenizer, source, compiled } = opened;
    const hidden = source.config.hiddenSize;
    const table = await source.read("embed_tokens.weight");
    const row = (id: number) => table.subarray(id * hidden, (id + 1) * hidden);
    const [film, good] = [" film", " good"].map(text => tokenizer.encode(text)[0]!) as [number, number];
    const data = new Float32Array(3 * hidden);
    // Longer or shorter, a vector points where it points.
    data.set(row(film).map(value => 7 * value));
    data.set(
      row(good).map((value, i) => value + row(film)[i]!),
      hidden,
    );
    data.set(
      Float32Array.from({ length: hidden }, (_, i) => Math.sin(i * 1.7)),
      2 * hidden,
    );
    const parameters = writePromptFile({
      kind: "soft",
      template: "{{ soft(3) }}{{ input }}:",
      backbone: compiled.fingerprint,
      recipe: null,
      soft: { dims: [3, hidden], data },
    });
    const { positions, word_length } = await nearestTokens(
      opened,
      { template: "{{ soft(3) }}{{ input }}:", parameters },
      4,
    );
    expect(positions.map(({ position }) => position)).toEqual([0, 1, 2]);
    expect(positions[0]!.tokens[0]).toMatchObject({ id: film, text: " film" });
    expect(positions[0]!.tokens[0]!.similarity).toBeCloseTo(1, 5);
    expect(new Set(positions[1]!.tokens.slice(0, 2).map(({ id }) => id))).toEqual(new Set([film, good]));
    // Every cosine in doubles.
    const norm = (x: ArrayLike<number>) => Math.sqrt(sum(Array.from(x, value => value * value)));
    for (const { position, tokens, length } of positions) {
      const vector = data.subarray(position * hidden, (position + 1) * hidden);
      expect(length).toBeCloseTo(norm(vector), 3);
      const cosines = Array.from({ length: source.config.vocabSize }, (_, id) => {
        const word = row(id);
        let product = 0;
        let square = 0;
        for (let i = 0; i < hidden; i++) {
          product += vector[i]! * word[i]!;
          square += word[i]! * word[i]!;
        }
        return product / (norm(vector) * Math.sqrt(square));
      });
      const order = [...cosines.keys()].sort((a, b) => cosines[b]! - cosines[a]!).slice(0, 4);
      expect(tokens.map(({ id }) => id)).toEqual(order);
      for (const { id, similarity } of tokens) expect(similarity).toBeCloseTo(cosines[id]!, 4);
    }
    expect(word_length).toBeCloseTo(
      meanOf(Array.from({ length: source.config.vocabSize }, (_, id) => norm(row(id)))),
      2,
    );
  });
});

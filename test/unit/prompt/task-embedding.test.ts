/** Both of SPoT's similarities, against their definitions written out pair by pair. */
import fc from "fast-check";
import { expect, test } from "vitest";
import type { PromptFile } from "../../../src/prompt/file.ts";
import { similarity, taskEmbedding } from "../../../src/prompt/task-embedding.ts";

const about = { template: "{{ input }}", backbone: "f", recipe: null };
const softFile = (rows: readonly number[][]): PromptFile => ({
  ...about,
  kind: "soft",
  soft: { dims: [rows.length, rows[0]!.length], data: Float32Array.from(rows.flat()) },
});

const cosine = (a: readonly number[], b: readonly number[]) => {
  const dot = (x: readonly number[], y: readonly number[]) =>
    x.reduce((sum, value, i) => sum + value * y[i]!, 0);
  return dot(a, b) / Math.sqrt(dot(a, a) * dot(b, b));
};
const mean = (numbers: readonly number[]) => numbers.reduce((a, b) => a + b, 0) / numbers.length;
const average = (rows: readonly number[][]) => rows[0]!.map((_, i) => mean(rows.map(row => row[i]!)));
const expected = (a: readonly number[][], b: readonly number[][]) => ({
  average_tokens: cosine(average(a), average(b)),
  token_pairs: mean(a.flatMap(x => b.map(y => cosine(x, y)))),
});

const rows = (width: number) =>
  fc.array(
    fc
      .array(fc.integer({ min: -50, max: 50 }), { minLength: width, maxLength: width })
      .map(row => row.map((value, i) => value / 7 + (i === 0 ? 9 : 0))),
    { minLength: 1, maxLength: 6 },
  );

test("virtual tokens, of prompts of different lengths", () => {
  fc.assert(
    fc.property(rows(5), rows(5), (a, b) => {
      const [one, two] = [a, b].map(each => taskEmbedding(softFile(each), "soft")) as [never, never];
      const wanted = expected(a, b);
      const found = similarity(one, two);
      expect(found.average_tokens).toBeCloseTo(wanted.average_tokens, 4);
      expect(found.token_pairs).toBeCloseTo(wanted.token_pairs, 4);
      expect(similarity(two, one)).toEqual(found);
      expect(similarity(one, one).average_tokens).toBeCloseTo(1, 5);
    }),
  );
});

test("a prefix is compared by its values, a layer at a time, whatever their size", () => {
  const [layers, kvHeads, headDim] = [3, 2, 4];
  /** `value[layer][position]` is [kvHeads · headDim]. */
  const prefixFile = (positions: number, phase: number) => {
    const value = Array.from({ length: layers }, (_, layer) =>
      Array.from({ length: positions }, (_, position) =>
        Array.from(
          { length: kvHeads * headDim },
          (_, i) => 10 ** layer * (Math.sin(1 + layer + i * phase + position * position) + 0.3),
        ),
      ),
    );
    const data = new Float32Array(layers * kvHeads * positions * headDim);
    for (let i = 0; i < data.length; i++) {
      const [within, position] = [i % headDim, Math.floor(i / headDim) % positions];
      const head = Math.floor(i / (headDim * positions)) % kvHeads;
      const layer = Math.floor(i / (headDim * positions * kvHeads));
      data[i] = value[layer]![position]![head * headDim + within]!;
    }
    const dims = [layers, kvHeads, positions, headDim] as const;
    // What the keys are does not matter.
    const key = data.map((_, i) => Math.cos(i * phase));
    return { value, file: { ...about, kind: "prefix", prefix: { dims, key, value: data } } as PromptFile };
  };
  const [a, b] = [prefixFile(3, 0.7), prefixFile(5, 1.9)];
  const found = similarity(taskEmbedding(a.file, "prefix"), taskEmbedding(b.file, "prefix"));
  const each = a.value.map((layer, index) => expected(layer, b.value[index]!));
  expect(found.average_tokens).toBeCloseTo(mean(each.map(({ average_tokens }) => average_tokens)), 5);
  expect(found.token_pairs).toBeCloseTo(mean(each.map(({ token_pairs }) => token_pairs)), 5);
  expect(() => taskEmbedding(a.file, "soft")).toThrow("no parameters of kind soft");
});

test("a vector of zeros is like nothing", () => {
  const zeros = taskEmbedding(softFile([[0, 0]]), "soft");
  expect(similarity(zeros, taskEmbedding(softFile([[1, 2]]), "soft"))).toEqual({
    average_tokens: 0,
    token_pairs: 0,
  });
});

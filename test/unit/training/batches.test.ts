import { expect, test } from "vitest";
import type { BackboneConfig } from "../../../src/backbone/source.ts";
import { microBatches } from "../../../src/training/batches.ts";
import { runBytes } from "../../../src/training/bytes.ts";
import type { TrainingRow } from "../../../src/training/rows.ts";

const row = (length: number): TrainingRow => ({ segments: [], length, decisions: [], next: [] });
const lengthsOf = (parts: TrainingRow[][]) => parts.map(part => part.map(({ length }) => length));

test("micro-batches: like lengths together, within the tokens and what fits; a longer row stands alone", () => {
  const rows = [9, 2, 30, 4, 3, 5].map(row);
  expect(lengthsOf(microBatches(rows, 10, () => true))).toEqual([[2, 3, 4], [5], [9], [30]]);
  expect(lengthsOf(microBatches(rows, 100, part => part.length <= 2))).toEqual([
    [2, 3],
    [4, 5],
    [9, 30],
  ]);
  expect(lengthsOf(microBatches(rows, 100, () => false))).toEqual([[2], [3], [4], [5], [9], [30]]);
});

test("a run's bytes are near what was measured, and grow with rows, lengths and the prefix", () => {
  const smollm2 = {
    layers: 30,
    hiddenSize: 576,
    intermediateSize: 1536,
    heads: 9,
    vocabSize: 49152,
  } as BackboneConfig;
  const bytes = (lengths: number[], past = 128) => runBytes(lengths.map(row), past, smollm2);
  for (const [lengths, measured] of [
    [Array<number>(8).fill(40), 586e6],
    [[330], 781e6],
    [[440], 1076e6],
  ] as const) {
    expect(bytes([...lengths]) / measured).toBeGreaterThan(1);
    expect(bytes([...lengths]) / measured).toBeLessThan(1.1);
  }
  expect(bytes([330], 512)).toBeGreaterThan(bytes([330]));
  // What is predicted over the whole vocabulary counts: 0.8 MB a token.
  const next = [{ at: 0, token: 1, weight: 1 }];
  const more = runBytes([{ ...row(10), next }], 128, smollm2) - bytes([10]);
  expect(more).toBe(4 * 4 * 49152);
  // Padding to the longest costs scores, not states.
  expect(bytes([10, 100])).toBeGreaterThan(bytes([100]) + bytes([10]));
});

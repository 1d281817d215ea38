import fc from "fast-check";
import { expect, test } from "vitest";
import { batchAt, microBatches } from "../../../src/training/batches.ts";
import { runBytes } from "../../../src/training/bytes.ts";
import type { TrainingRow } from "../../../src/training/rows.ts";
import { smollm2 } from "../../support/sizes.ts";

const row = (length: number): TrainingRow => ({ segments: [], length, decisions: [], next: [] });
const lengthsOf = (parts: TrainingRow[][]) => parts.map(part => part.map(({ length }) => length));

test("a pass shows every example once, save fewer than a batch; another pass in another order", () => {
  const cases = fc.record({
    lengths: fc.array(fc.integer({ min: 1, max: 90 }), { minLength: 1, maxLength: 300 }),
    size: fc.integer({ min: 1, max: 20 }),
    seed: fc.nat(1000),
  });
  fc.assert(
    fc.property(cases, fc.nat(3), (data, pass) => {
      const each = Math.min(data.size, data.lengths.length);
      const batches = Math.floor(data.lengths.length / each);
      const steps = Array.from({ length: batches }, (_, at) => batchAt(pass * batches + at, data));
      for (const batch of steps) expect(batch).toHaveLength(each);
      const seen = steps.flat();
      expect(new Set(seen).size).toBe(seen.length);
      expect(seen.every(index => index >= 0 && index < data.lengths.length)).toBe(true);
    }),
  );
  const data = { lengths: Array.from({ length: 64 }, (_, i) => i), size: 8, seed: 1 };
  expect(batchAt(0, data)).not.toEqual(batchAt(8, data));
  expect(batchAt(0, data)).not.toEqual(batchAt(0, { ...data, seed: 2 }));
});

test("examples of a batch are of like lengths, batches of a window in any order", () => {
  const lengths = Array.from({ length: 1024 }, (_, i) => 1 + ((i * 37) % 64));
  const steps = Array.from({ length: 64 }, (_, step) => batchAt(step, { lengths, size: 16, seed: 3 }));
  const of = (batch: number[]) => batch.map(index => lengths[index]!);
  const spread = steps.map(batch => Math.max(...of(batch)) - Math.min(...of(batch)));
  expect(spread.reduce((sum, each) => sum + each, 0) / steps.length).toBeLessThan(14);
  const means = steps.map(batch => of(batch).reduce((sum, each) => sum + each, 0) / 16);
  const rising = means.filter((mean, step) => step > 0 && mean > means[step - 1]!).length;
  expect(rising).toBeGreaterThan(16);
  expect(rising).toBeLessThan(48);
});

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

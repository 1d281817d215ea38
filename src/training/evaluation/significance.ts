/** Whether one prompt's answers are better than another's beyond chance; both answered the same examples in the same order. */
import { randomFrom } from "../../engine/sampler.ts";
import { isRight, type Judged } from "./metrics.ts";

/** Two-sided exact McNemar test (McNemar 1947): p of so uneven a share of the examples on which only one is right. */
export function mcnemar(a: readonly Judged[], b: readonly Judged[]): number {
  const onlyA = a.filter((each, i) => isRight(each) && !isRight(b[i]!)).length;
  const onlyB = b.filter((each, i) => isRight(each) && !isRight(a[i]!)).length;
  const n = onlyA + onlyB;
  let tail = 0;
  let logChoose = 0;
  for (let k = 0; k <= Math.min(onlyA, onlyB); k++) {
    tail += Math.exp(logChoose - n * Math.LN2);
    logChoose += Math.log(n - k) - Math.log(k + 1);
  }
  return Math.min(1, 2 * tail);
}

/** A share with its 95 % interval (Wilson 1927). */
export function shareOf(count: number, of: number): { value: number; low: number; high: number } {
  const z = 1.959964;
  const value = count / of;
  const centre = (value + z ** 2 / (2 * of)) / (1 + z ** 2 / of);
  const half = (z / (1 + z ** 2 / of)) * Math.sqrt((value * (1 - value)) / of + z ** 2 / (4 * of ** 2));
  return { value, low: Math.max(0, centre - half), high: Math.min(1, centre + half) };
}

/** Draws of one bootstrap at most: a second or two. With many examples fewer resamples tell as much. */
const DRAWS = 2e8;
const RESAMPLES = { least: 200, most: 10_000 };

export interface Resampled {
  /** The middle 95 % of the resampled values. */
  low: number;
  high: number;
  /** Two-sided p of no difference, at least 2^(1-n): the chance that n examples all differ the same way. */
  p: number;
}

/**
 * Paired bootstrap (Efron & Tibshirani 1993; Koehn 2004): a difference computed again on `resamples` draws, with
 * replacement, of as many examples. `difference` gets the indices that were drawn.
 */
export function pairedBootstrap(
  examples: number,
  difference: (drawn: Int32Array) => number,
  { seed = 1, resamples = RESAMPLES.most } = {},
): Resampled {
  const affordable = Math.max(RESAMPLES.least, Math.floor(DRAWS / examples));
  const random = randomFrom(seed);
  const drawn = new Int32Array(examples);
  const values = Float64Array.from({ length: Math.min(resamples, affordable) }, () => {
    for (let i = 0; i < examples; i++) drawn[i] = Math.floor(random() * examples);
    return difference(drawn);
  }).sort();
  const above = values.reduce((count, value) => count + (value > 0 ? 1 : value === 0 ? 0.5 : 0), 0);
  const share = (above + 0.5) / (values.length + 1);
  return {
    low: values[Math.floor(0.025 * (values.length - 1))]!,
    high: values[Math.ceil(0.975 * (values.length - 1))]!,
    p: Math.min(1, Math.max(2 * Math.min(share, 1 - share), 2 ** (1 - examples))),
  };
}

/** `pairedBootstrap` of a mean of differences. */
export function meanBootstrap(differences: ArrayLike<number>, options?: { seed?: number }): Resampled {
  const each = Float64Array.from(differences);
  return pairedBootstrap(
    each.length,
    drawn => {
      let sum = 0;
      for (let i = 0; i < drawn.length; i++) sum += each[drawn[i]!]!;
      return sum / drawn.length;
    },
    options,
  );
}

/** How good answers are, and whether one prompt's are better than another's beyond chance. */
import type { Metric } from "../contract/train.ts";
import { randomFrom } from "../engine/sampler.ts";

/** One example, answered. */
export interface Judged {
  /** The label or text that was wanted, and the one that was given; equal texts are right. */
  wanted: string;
  given: string;
  /** -log P of what was wanted (nats; a token's mean for texts), where it is known. */
  loss: number | null;
}

const mean = (values: readonly number[]): number =>
  values.reduce((sum, value) => sum + value, 0) / values.length;

export const accuracy = (judged: readonly Judged[]): number =>
  mean(judged.map(({ wanted, given }) => Number(wanted === given)));

/** Mean over the labels that occur of the harmonic mean of precision and recall (0 where neither is defined). */
export function macroF1(judged: readonly Judged[]): number {
  const labels = new Set(judged.map(({ wanted }) => wanted));
  return mean(
    [...labels].map(label => {
      const hits = judged.filter(({ wanted, given }) => wanted === label && given === label).length;
      const named = judged.filter(({ wanted }) => wanted === label).length;
      const given = judged.filter(each => each.given === label).length;
      return (2 * hits) / (named + given);
    }),
  );
}

/** Larger is better for every one of them. */
export const scores: Readonly<Record<Metric, (judged: readonly Judged[]) => number>> = {
  accuracy,
  macro_f1: macroF1,
  loss: judged => -mean(judged.map(({ loss }) => loss ?? Number.NaN)),
};

/** Of a score, as if it were a mean over the examples (which macro-F1 is nearly). */
export function standardError(judged: readonly Judged[], metric: Metric): number {
  const each = judged.map(({ wanted, given, loss }) =>
    metric === "loss" ? (loss ?? 0) : Number(wanted === given),
  );
  const centre = mean(each);
  const variance = mean(each.map(value => (value - centre) ** 2));
  return Math.sqrt(variance / each.length);
}

/** Two-sided exact McNemar test (McNemar 1947): p of so uneven a share of the examples on which only one is right. */
export function mcnemar(a: readonly Judged[], b: readonly Judged[]): number {
  const right = ({ wanted, given }: Judged) => wanted === given;
  const onlyA = a.filter((each, i) => right(each) && !right(b[i]!)).length;
  const onlyB = b.filter((each, i) => right(each) && !right(a[i]!)).length;
  const n = onlyA + onlyB;
  let tail = 0;
  let logChoose = 0;
  for (let k = 0; k <= Math.min(onlyA, onlyB); k++) {
    tail += Math.exp(logChoose - n * Math.LN2);
    logChoose += Math.log(n - k) - Math.log(k + 1);
  }
  return Math.min(1, 2 * tail);
}

/** Two-sided paired bootstrap (Efron & Tibshirani 1993): p of no difference between the mean losses. */
export function bootstrap(a: readonly Judged[], b: readonly Judged[], seed = 1, resamples = 10_000): number {
  const differences = a.map((each, i) => (each.loss ?? 0) - (b[i]!.loss ?? 0));
  const random = randomFrom(seed);
  const count = differences.length;
  let above = 0;
  for (let resample = 0; resample < resamples; resample++) {
    let sum = 0;
    for (let i = 0; i < count; i++) sum += differences[Math.floor(random() * count)]!;
    if (sum > 0) above++;
    else if (sum === 0) above += 0.5;
  }
  const share = (above + 0.5) / (resamples + 1);
  return Math.min(1, 2 * Math.min(share, 1 - share));
}

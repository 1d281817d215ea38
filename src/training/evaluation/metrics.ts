/** How good answers are. */
import type { Metric } from "../../contract/train.ts";

/** One example, answered. */
export interface Judged {
  /** The label or text that was wanted, and the one that was given; equal texts are right. */
  wanted: string;
  given: string;
  /** -log P of what was wanted (nats; a token's mean for texts), where it is known. */
  loss: number | null;
}

export const meanOf = (values: readonly number[]): number =>
  values.reduce((sum, value) => sum + value, 0) / values.length;

export const isRight = ({ wanted, given }: Judged): boolean => wanted === given;

export const accuracy = (judged: readonly Judged[]): number =>
  meanOf(judged.map(each => Number(isRight(each))));

/** Answers that are a label and right, that are that label, and examples that have it. */
export const countsOf = (judged: readonly Judged[], label: string) => ({
  hits: judged.filter(({ wanted, given }) => wanted === label && given === label).length,
  given: judged.filter(({ given }) => given === label).length,
  support: judged.filter(({ wanted }) => wanted === label).length,
});

/**
 * Mean of the harmonic means of precision and recall (0 where one is) over the labels that are wanted or given, as
 * scikit-learn's f1_score has it.
 */
export function macroF1(judged: readonly Judged[]): number {
  const labels = new Set(judged.flatMap(({ wanted, given }) => [wanted, given]));
  return meanOf(
    [...labels].map(label => {
      const { hits, given, support } = countsOf(judged, label);
      return (2 * hits) / (support + given);
    }),
  );
}

/** Larger is better for every one of them. */
export const scores: Readonly<Record<Metric, (judged: readonly Judged[]) => number>> = {
  accuracy,
  macro_f1: macroF1,
  loss: judged => -meanOf(judged.map(({ loss }) => loss ?? Number.NaN)),
};

/** A score as people read it: a loss, which is kept as its negative, as it is. No other score is below 0. */
export const forPeople = (score: number | null, digits = 4): string =>
  score === null ? "-" : Math.abs(score).toFixed(digits);

/** The standard error of a score, as if it were a mean over the examples (which macro-F1 is nearly). */
export function standardError(judged: readonly Judged[], metric: Metric): number {
  const each = judged.map(one => (metric === "loss" ? (one.loss ?? 0) : Number(isRight(one))));
  const centre = meanOf(each);
  const variance = meanOf(each.map(value => (value - centre) ** 2));
  return Math.sqrt(variance / each.length);
}

/** Label biases of a candidate: fitted on one half of its answers and judged on the other, then fitted on all. */
import type { Active } from "../../contract/task.ts";
import type { Metric } from "../../contract/train.ts";
import { fitBias } from "../evaluation/bias.ts";
import { temperatureOf } from "../evaluation/calibration.ts";
import { answeredAnew, crossFitted, type Labelled } from "../evaluation/judge.ts";
import { meanOf, scores } from "../evaluation/metrics.ts";

/** Fewer answers fit no biases, but tell what the prompt says on average, whatever it is asked. */
const LEAST = 32;
/** Steps of the descent: a race only compares, so the last digit does not matter. */
const STEPS = 400;

/**
 * Each half of the answers with the biases of the other one; few answers with the labels' mean log-probabilities taken
 * off, which needs no labels (batch calibration, Zhou et al. 2024).
 */
export function withBias(judged: readonly Labelled[], labels: readonly string[]): Labelled[] {
  if (judged.length < LEAST) {
    const bias = offUsual(judged, labels);
    return judged.map(each => answeredAnew(each, { bias }));
  }
  return crossFitted(
    judged,
    examples => fittedTo(examples, labels),
    bias => ({ bias }),
  );
}

/**
 * As `withBias`, with a temperature too, so that the loss is that of probabilities which mean what they say: biases alone
 * grow with the temperature that belongs to them.
 */
export function recalibrated(judged: readonly Labelled[], labels: readonly string[]): Labelled[] {
  if (judged.length < LEAST) return withBias(judged, labels);
  return crossFitted(
    judged,
    examples => {
      const bias = fittedTo(examples, labels);
      return { bias, temperature: temperatureOf(examples, { bias }) };
    },
    fitted => fitted,
  );
}

/** What `withBias` judges by, over all answers; null if they are no better with it than they are as `usual`. */
export function biasOf(
  judged: readonly Labelled[],
  labels: readonly string[],
  metric: Metric,
  usual: readonly Labelled[] = judged,
): NonNullable<Active["bias"]> | null {
  const gain = scores[metric](withBias(judged, labels)) - scores[metric](usual);
  if (!(gain > 0)) return null;
  return judged.length < LEAST ? offUsual(judged, labels) : fittedTo(judged, labels);
}

/** Takes the labels' mean log-probabilities off; its own mean is 0. */
function offUsual(judged: readonly Labelled[], labels: readonly string[]): NonNullable<Active["bias"]> {
  const usual = labels.map(label => meanOf(judged.map(({ members }) => members[0]!.get(label)!)));
  const centre = meanOf(usual);
  return Object.fromEntries(labels.map((label, index) => [label, clamp(centre - usual[index]!)]));
}

function fittedTo(judged: readonly Labelled[], labels: readonly string[]): NonNullable<Active["bias"]> {
  const rows = judged.map(({ members }) => labels.map(label => members[0]!.get(label)!));
  const gold = judged.map(({ wanted }) => labels.indexOf(wanted));
  const bias = fitBias(rows, gold, { steps: STEPS });
  return Object.fromEntries(labels.map((label, index) => [label, clamp(bias[index]!)]));
}

/** What an active record takes. */
const clamp = (bias: number): number => Math.min(100, Math.max(-100, bias));

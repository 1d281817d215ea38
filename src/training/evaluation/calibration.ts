/** Whether probabilities mean what they say, and the temperature with which they do (Guo et al. 2017). */
import type { Active } from "../../contract/task.ts";
import { type Labelled, nats, probabilities } from "./judge.ts";
import { meanOf } from "./metrics.ts";

/** One answer: the probability of the label that was given, and whether it was right. */
export interface Confidence {
  probability: number;
  right: boolean;
}

const BINS = 15;

/** Expected calibration error: |accuracy - confidence| in 15 bins of equal width, weighted by their examples. */
export function calibrationError(answers: readonly Confidence[]): number {
  const bins = Array.from({ length: BINS }, () => ({ probability: 0, right: 0 }));
  for (const { probability, right } of answers) {
    // Bins are open below: 1 belongs to the last one.
    const bin = bins[Math.min(BINS - 1, Math.max(0, Math.ceil(probability * BINS) - 1))]!;
    bin.probability += probability;
    bin.right += Number(right);
  }
  return bins.reduce((sum, bin) => sum + Math.abs(bin.right - bin.probability), 0) / answers.length;
}

/** Temperatures that are looked at. */
const [COLDEST, HOTTEST] = [0.05, 20];
const PRECISION = 1e-3;
const GOLDEN = (Math.sqrt(5) - 1) / 2;

/**
 * The temperature that an active record's answers fit. Targets are n + 1 in n + 2, the rest shared by the other labels
 * (Platt 1999): answers that happen to be all right would make the one mistake of others cost any amount.
 */
export function temperatureOf(judged: readonly Labelled[], active: Active): number {
  const missed = 1 / (judged.length + 2);
  const lossAt = (temperature: number) =>
    meanOf(
      judged.map(({ members, wanted }) => {
        const shares = [...probabilities(members, { ...active, temperature })];
        return shares.reduce(
          (sum, [label, p]) => sum + (label === wanted ? 1 - missed : missed / (shares.length - 1)) * nats(p),
          0,
        );
      }),
    );
  return fitTemperature(lossAt);
}

/** The temperature of least mean loss, by golden sections of its logarithm (Kiefer 1953): the loss has one valley. */
export function fitTemperature(lossAt: (temperature: number) => number): number {
  let [low, high] = [Math.log(COLDEST), Math.log(HOTTEST)];
  const at = (share: number) => low + (high - low) * share;
  let [left, right] = [at(1 - GOLDEN), at(GOLDEN)];
  let [lossLeft, lossRight] = [lossAt(Math.exp(left)), lossAt(Math.exp(right))];
  while (high - low > PRECISION) {
    if (lossLeft <= lossRight) {
      high = right;
      [right, lossRight] = [left, lossLeft];
      left = at(1 - GOLDEN);
      lossLeft = lossAt(Math.exp(left));
    } else {
      low = left;
      [left, lossLeft] = [right, lossRight];
      right = at(GOLDEN);
      lossRight = lossAt(Math.exp(right));
    }
  }
  return Math.exp((low + high) / 2);
}

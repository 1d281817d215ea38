/** Whether a new prompt is better than what is active, on the same examples. */
import type { TaskType } from "../../contract/task.ts";
import type { Metric } from "../../contract/train.ts";
import { accuracy, type Judged, scores } from "./metrics.ts";
import { mcnemar, meanBootstrap } from "./significance.ts";

/** What counts as beyond chance. */
const SIGNIFICANT = 0.05;

export interface Compared {
  validation: { new: number; active: number | null; p_value: number | null };
  /** Whether the new one is better beyond chance. */
  better: boolean;
}

/**
 * Exact McNemar test for labels, paired bootstrap of the losses for texts. `choices`: how many the new one was chosen
 * among by these very examples; p is multiplied by it (Bonferroni).
 */
export function compare(
  type: TaskType,
  metric: Metric,
  mine: readonly Judged[],
  theirs: readonly Judged[] | null,
  choices = 1,
): Compared {
  const score = scores[metric];
  if (theirs === null) return { validation: { new: score(mine), active: null, p_value: null }, better: true };
  const p =
    type === "classification"
      ? mcnemar(mine, theirs)
      : meanBootstrap(mine.map(({ loss }, i) => loss! - theirs[i]!.loss!)).p;
  const found = { new: score(mine), active: score(theirs), p_value: Math.min(1, p * choices) };
  // McNemar's test is of accuracy: another metric must not turn it around.
  const agrees = type === "generation" || accuracy(mine) > accuracy(theirs);
  return { validation: found, better: found.p_value < SIGNIFICANT && found.new > found.active && agrees };
}

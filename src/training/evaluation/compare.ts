/** Whether a new prompt is better than what is active, on the same examples. */
import type { Example } from "../../contract/dataset.ts";
import type { TaskType } from "../../contract/task.ts";
import type { Metric } from "../../contract/train.ts";
import { orElse } from "../../errors.ts";
import { inputKey } from "../examples.ts";
import { accuracy, type Judged, meanOf, scores } from "./metrics.ts";
import { mcnemar, meanBootstrap } from "./significance.ts";

/** What counts as beyond chance. */
export const SIGNIFICANT = 0.05;

export interface Compared {
  validation: { new: number; active: number | null; p_value: number | null };
  /** Whether the new one is better beyond chance. */
  better: boolean;
  /** Where chance could explain whatever so few examples say: how many they are, and how many there must be at least. */
  few: { examples: number; least: number } | null;
}

export interface Comparing {
  type: TaskType;
  metric: Metric;
  /** What both answered, in the order of their answers. */
  examples: readonly Example[];
  /** How many the new one was chosen among by these very examples; p is multiplied by it (Bonferroni). */
  choices?: number;
}

/** Exact McNemar test for labels, paired bootstrap of the losses for texts. */
export function compare(
  { type, metric, examples, choices = 1 }: Comparing,
  mine: readonly Judged[],
  theirs: readonly Judged[] | null,
): Compared {
  const score = scores[metric];
  if (theirs === null)
    return { validation: { new: score(mine), active: null, p_value: null }, better: true, few: null };
  const gaps = type === "generation" ? differences(examples.map(inputKey), mine, theirs) : null;
  const p = gaps ? meanBootstrap(gaps).p : mcnemar(mine, theirs);
  const found = { new: score(mine), active: score(theirs), p_value: Math.min(1, p * choices) };
  // The tests are of accuracy, and of inputs' losses: a metric that weighs otherwise must not turn them around.
  const agrees = gaps ? meanOf(gaps) < 0 : accuracy(mine) > accuracy(theirs);
  return {
    validation: found,
    better: found.p_value < SIGNIFICANT && found.new > found.active && agrees,
    few: tooFew(gaps ? gaps.length : examples.length, choices),
  };
}

/** Both tests give n examples that all differ alike a p of 2^(1-n), and nothing a lower one. */
function tooFew(examples: number, choices: number): Compared["few"] {
  const least = Math.floor(1 + Math.log2(choices / SIGNIFICANT)) + 1;
  return examples < least ? { examples, least } : null;
}

/** What was active answers as it can. Where it can't answer every example, nothing is compared, and the log says so. */
export function answersOfActive<Answers>(answers: Promise<Answers>, log: (text: string) => void) {
  return answers.catch(error => {
    const none = orElse(null, "input_too_long", "bad_tensor")(error);
    log(`what is active can't be compared: ${(error as Error).message}`);
    return none;
  });
}

/** Differences of losses, one for each input. */
export const differences = (
  keys: readonly unknown[],
  mine: readonly Judged[],
  theirs: readonly Judged[],
): number[] =>
  byInput(
    keys,
    mine.map(({ loss }, index) => loss! - theirs[index]!.loss!),
  ).map(meanOf);

/** What each input's examples came to, by their keys: several answers to one input are no draws of their own. */
export function byInput<Result>(keys: readonly unknown[], results: readonly Result[]): Result[][] {
  const groups = new Map<unknown, Result[]>();
  for (const [index, key] of keys.entries()) {
    const group = groups.get(key);
    if (group) group.push(results[index]!);
    else groups.set(key, [results[index]!]);
  }
  return [...groups.values()];
}

/** From label log-probabilities to an answer: fitted numbers, votes, and the threshold below which there is none. */
import type { Active } from "../contract/task.ts";

export type Scores = ReadonlyMap<string, number>;

/** softmax((log P + bias) / temperature) (Guo et al. 2017; Zhao et al. 2021): probabilities that sum to 1. */
export function calibrate(
  logprobs: Scores,
  { temperature = 1, bias = {} }: Pick<Active, "temperature" | "bias">,
): Map<string, number> {
  // A label may be called "constructor", which every object has.
  const added = (label: string) => (Object.hasOwn(bias, label) ? bias[label]! : 0);
  const raised = [...logprobs].map(([label, logprob]) => [label, logprob + added(label)] as const);
  const top = Math.max(...raised.map(([, value]) => value));
  // Less the top first: divided by a temperature near 0, all would be -Infinity.
  const odds = raised.map(([label, value]) => [label, Math.exp((value - top) / temperature)] as const);
  const total = odds.reduce((sum, [, value]) => sum + value, 0);
  return new Map(odds.map(([label, value]) => [label, value / total]));
}

/** The members' joint probabilities (Lester et al. 2021, section 6); a majority's ties go to the higher mean. */
export function vote(
  members: readonly Scores[],
  way: "mean" | "majority" | "weighted",
  weights: readonly number[],
): Map<string, number> {
  const total = weights.reduce((sum, weight) => sum + weight, 0);
  const labels = [...members[0]!.keys()];
  const mean = new Map(
    labels.map(label => [
      label,
      members.reduce((sum, member, index) => sum + weights[index]! * member.get(label)!, 0) / total,
    ]),
  );
  if (way !== "majority") return mean;
  const votes = members.map(member => best(member));
  const share = new Map(
    labels.map(label => [label, votes.filter(chosen => chosen === label).length / members.length]),
  );
  return new Map(
    labels
      .toSorted((a, b) => share.get(b)! - share.get(a)! || mean.get(b)! - mean.get(a)!)
      .map(label => [label, share.get(label)!]),
  );
}

/** The share of members whose best label is `label`. */
export const agreement = (members: readonly Scores[], label: string): number =>
  members.filter(member => best(member) === label).length / members.length;

/** Whether the best label is too improbable, or too few members give it, to be an answer. */
export function isUnsure(
  scores: Scores,
  members: readonly Scores[],
  { unsure_below = 0, agreement_below = 0 }: Pick<Active, "unsure_below" | "agreement_below">,
): boolean {
  const label = best(scores);
  return scores.get(label)! < unsure_below || agreement(members, label) < agreement_below;
}

export function best(scores: Scores): string {
  let winner: [string, number] | null = null;
  for (const entry of scores) if (winner === null || entry[1] > winner[1]) winner = entry;
  return winner![0];
}

/** Best first, at most `count`. */
export const ranked = (scores: Scores, count: number): Record<string, number> =>
  Object.fromEntries([...scores].toSorted((a, b) => b[1] - a[1]).slice(0, count));

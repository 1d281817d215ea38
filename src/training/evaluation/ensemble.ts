/** An ensemble's members, judged together on validation: how each vote does, and the weights of the weighted one. */
import type { EnsembleReport } from "../../contract/evaluate.ts";
import type { Active, Vote } from "../../contract/task.ts";
import { agreement, calibrate } from "../../prompt/votes.ts";
import type { Bench } from "../begin.ts";
import { dataOf } from "../data.ts";
import type { ActivePrompts, TrainHooks, TrainJob } from "../job.ts";
import { counting } from "../progress.ts";
import { answersOfActive, type Compared, compare } from "./compare.ts";
import { answeredAnew, crossFitted, type Labelled, label } from "./judge.ts";
import { meanOf, scores as scoresBy } from "./metrics.ts";

const ROUNDS = 200;
const votes = ["mean", "majority", "weighted"] as const;

export interface EnsembleJob extends Pick<TrainJob, "task" | "examples" | "validation" | "splitSeed"> {
  /** The members, as the active record that would let them answer. */
  ensemble: ActivePrompts;
  metric: "accuracy" | "macro_f1" | "loss";
  /** Compared with the ensemble. */
  active: ActivePrompts | null;
}

export type EnsembleOutcome = EnsembleReport & Compared;

export async function combine(
  bench: Bench,
  { ensemble, metric, active, ...job }: EnsembleJob,
  hooks: Pick<TrainHooks, "log" | "progress">,
): Promise<EnsembleOutcome> {
  const { log } = hooks;
  const { validation, nameOf } = dataOf(job, () => {});
  const shared = {
    ...bench,
    task: job.task,
    nameOf: (index: number) => nameOf(validation[index]!),
    tell: counting(hooks, (active ? 2 : 1) * validation.length),
  };
  const score = scoresBy[metric];
  const judged = await label({ ...shared, ...ensemble }, validation);
  const weights = fitWeights(judged);
  const byVote: Record<Vote, Labelled[]> = {
    mean: revoted(judged, "mean"),
    majority: revoted(judged, "majority"),
    weighted: revoted(judged, "weighted"),
  };
  const members = ensemble.prompts.map((_, member) =>
    score(judged.map(each => answeredAnew(each, {}, [each.members[member]!]))),
  );
  const mine = byVote[ensemble.active.vote ?? "mean"];
  const report: EnsembleReport = {
    members,
    votes: { mean: score(byVote.mean), majority: score(byVote.majority), weighted: score(byVote.weighted) },
    weights,
    agreement: meanOf(mine.map(each => agreed(each))),
  };
  log(
    `members ${members.map(value => value.toFixed(4)).join(", ")}; together ${votes.map(vote => `${vote} ${report.votes[vote].toFixed(4)}`).join(", ")}`,
  );
  const theirs = active && (await answersOfActive(label({ ...shared, ...active }, validation), log));
  return { ...report, ...compare({ type: "classification", metric, examples: validation }, mine, theirs) };
}

/**
 * The weights with which the members' mixture makes what was wanted likeliest (stacked densities, Smyth & Wolpert
 * 1999), by expectation maximisation, which has one optimum here. They sum to 1.
 */
export function fitWeights(judged: readonly Labelled[], active: Active = {}): number[] {
  const shares = judged.map(({ members, wanted }) =>
    members.map(member => calibrate(member, active).get(wanted)!),
  );
  const count = judged[0]!.members.length;
  let weights = new Array<number>(count).fill(1 / count);
  for (let round = 0; round < ROUNDS; round++) {
    const next = new Array<number>(count).fill(0);
    for (const each of shares) {
      const total = each.reduce((sum, share, member) => sum + weights[member]! * share, 0);
      for (const [member, share] of each.entries())
        next[member]! += total === 0 ? 1 / count : (weights[member]! * share) / total;
    }
    weights = next.map(sum => sum / shares.length);
  }
  return weights;
}

/** The same members' answers by another vote; weights are fitted on one half of the examples for the other. */
export function revoted(judged: readonly Labelled[], vote: Vote, active: Active = {}): Labelled[] {
  const voting = { ...active, vote };
  if (vote !== "weighted") return judged.map(each => answeredAnew(each, voting));
  return crossFitted(
    judged,
    examples => fitWeights(examples, active),
    weights => ({ ...voting, weights }),
  );
}

/** The share of the members that give the answer which all of them come to. */
export const agreed = ({ members, given }: Labelled, active: Active = {}): number =>
  agreement(
    members.map(member => calibrate(member, active)),
    given,
  );

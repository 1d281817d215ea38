/** Prompts' answers to examples, by the engine that serves: what is measured here is what callers will get. */
import type { Example } from "../../contract/dataset.ts";
import type { Active } from "../../contract/task.ts";
import { type Core, patient } from "../../engine/core.ts";
import { randomFrom } from "../../engine/sampler.ts";
import { type VerbalizedLabel, verbalize } from "../../prompt/verbalizer.ts";
import { best, calibrate, type Scores, vote } from "../../prompt/votes.ts";
import { shuffled } from "../batches.ts";
import { answerOf, inputKey } from "../examples.ts";
import { type Judging, onShelf, sideBySide } from "./judging.ts";
import type { Judged } from "./metrics.ts";
import { write } from "./write.ts";

/** Tokens of all verbalizers up to which one run behind the row is cheaper than several that go best first. */
const ALL_SCORES = 64;

/** An example, answered with a label. */
export interface Labelled extends Judged {
  /** P(label): of every label where they were asked for, else of those that were settled, the wanted one among them. */
  scores: Scores;
  /** log P(label) by each member, as the backbone gave it. */
  members: readonly Scores[];
  /** What was asked (`inputKey`): several answers to one input are no evidence of their own. */
  input?: string;
}

/** Answers every example as serving would, in the examples' order. `every`: each label's probability is wanted. */
export function label(
  judging: Judging,
  examples: readonly Example[],
  { every = false } = {},
): Promise<Labelled[]> {
  const { core, active, task } = judging;
  return onShelf(judging, async members => {
    const verbalized = members.map(({ template, verbalizers }) =>
      verbalize(task.labels!, template, verbalizers),
    );
    const few = core.checkLabels(verbalized[0]!).flat(2).length <= ALL_SCORES;
    const fitted = active.bias !== undefined || active.temperature !== undefined;
    const all = every || few || fitted || members.length > 1;
    return sideBySide(judging, examples, async example => {
      const wanted = answerOf(example);
      const found = await Promise.all(
        members.map(({ digest }, index) =>
          classify(core, digest, example, verbalized[index]!, all ? null : wanted),
        ),
      );
      const scores = all ? answered(found, active) : exponents(found[0]!);
      const loss = all ? lossOf(found, active, wanted) : -found[0]!.get(wanted)!;
      return { wanted, given: best(scores), loss, scores, members: found, input: inputKey(example) };
    });
  });
}

/** The joint probabilities of members' log-probabilities: fitted numbers first, then the vote. */
export function answered(members: readonly Scores[], active: Active): Scores {
  const scores = members.map(member => calibrate(member, active));
  if (members.length === 1) return scores[0]!;
  const weights = active.vote === "weighted" ? active.weights : undefined;
  return vote(scores, active.vote ?? "mean", weights ?? members.map(() => 1));
}

/**
 * The probabilities that losses are computed from. The shares of a majority vote are none, and may be 0, so the members'
 * mean stands in for them.
 */
export const probabilities = (members: readonly Scores[], active: Active): Scores =>
  answered(members, active.vote === "majority" ? { ...active, vote: "mean" } : active);

/** -log P, finite. */
export const nats = (probability: number): number => -Math.log(Math.max(probability, Number.MIN_VALUE));

const lossOf = (members: readonly Scores[], active: Active, wanted: string): number =>
  nats(probabilities(members, active).get(wanted)!);

/** An example answered anew from its members' scores, by another active record. */
export function answeredAnew(
  each: Labelled,
  active: Active,
  members: readonly Scores[] = each.members,
): Labelled & { loss: number } {
  const scores = answered(members, active);
  return { ...each, scores, given: best(scores), loss: lossOf(members, active, each.wanted) };
}

/**
 * Every example answered anew with what the other half of them fits, so that nothing is judged by what it was fitted
 * to; where there is no other half, with what all of them fit. Each label's inputs are halved by chance.
 */
export function crossFitted<Fit>(
  judged: readonly Labelled[],
  fitTo: (examples: readonly Labelled[]) => Fit,
  activeOf: (fitted: Fit) => Active,
): Labelled[] {
  const halves = new Map<string | number, number>();
  const keyOf = (index: number) => judged[index]!.input ?? index;
  const order = shuffled(judged.length, randomFrom(0));
  order.sort((a, b) =>
    judged[a]!.wanted < judged[b]!.wanted ? -1 : Number(judged[a]!.wanted > judged[b]!.wanted),
  );
  for (const index of order) if (!halves.has(keyOf(index))) halves.set(keyOf(index), halves.size % 2);
  const actives = [1, 0].map(half => {
    const other = judged.filter((_, index) => halves.get(keyOf(index)) === half);
    return activeOf(fitTo(other.length > 0 ? other : judged));
  });
  return judged.map((each, index) => answeredAnew(each, actives[halves.get(keyOf(index))!]!));
}

/** Log P of every label, or of the best one and of `settle`. */
async function classify(
  core: Core,
  prompt: string,
  { input }: Example,
  labels: readonly VerbalizedLabel[],
  settle: string | null,
): Promise<Scores> {
  const { scores } = await core.infer(
    {
      kind: "classify",
      prompt,
      fields: input,
      labels,
      ...(settle === null ? { scores: "all" } : { scores: "top", settle: [settle] }),
    },
    patient,
  );
  return new Map(scores.map(each => [each.label, each.logprob]));
}

const exponents = (scores: Scores): Scores =>
  new Map([...scores].map(([label, logprob]) => [label, Math.exp(logprob)]));

/**
 * Every example judged: a label by its probability, a text by how probable the wanted one is (`given` stays empty, for
 * nothing is written).
 */
export async function judge(judging: Judging, examples: readonly Example[]): Promise<Judged[]> {
  if (judging.task.labels !== null) return label(judging, examples);
  const cases = examples.map(({ input, ...answer }) => ({
    input,
    wanted: [(answer as { output: string }).output],
  }));
  const written = await write(judging, cases, { maxTokens: 1 });
  return written.map(({ targets }) => {
    const { text, logprob, tokens } = targets[0]!;
    return { wanted: text, given: "", loss: -logprob / tokens };
  });
}

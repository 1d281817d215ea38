/** Prompts' answers to examples, by the engine that serves: what is measured here is what callers will get. */
import type { Example } from "../../contract/dataset.ts";
import type { TargetScore } from "../../contract/infer.ts";
import type { Active, Task, Verbalizers } from "../../contract/task.ts";
import { type Core, patient } from "../../engine/core.ts";
import {
  type GenerateRequest,
  greedy,
  type LabelVerbalizers,
  type PromptContent,
  type PromptSource,
} from "../../engine/engine.ts";
import { randomFrom } from "../../engine/sampler.ts";
import { ForewordError } from "../../errors.ts";
import { compileTemplate } from "../../prompt/template.ts";
import { spellings, verbalize } from "../../prompt/verbalizer.ts";
import { best, calibrate, type Scores, vote } from "../../prompt/votes.ts";
import { shuffled } from "../batches.ts";
import { answerOf, inputKey } from "../examples.ts";
import type { TaskPrompt } from "../job.ts";
import type { Judged } from "./metrics.ts";

/** Tokens of all verbalizers up to which one run behind the row is cheaper than several that go best first. */
const ALL_SCORES = 64;
/** Examples that are under way at once. */
const AT_ONCE = 64;

/** Prompts given by hand, as the engine asks for them. */
export class Shelf implements PromptSource {
  readonly #contents = new Map<string, PromptContent>();
  readonly #uses = new Map<string, number>();

  /** A prompt that is put twice stays until it is dropped twice. */
  put(core: Core, content: PromptContent): string {
    const { digest } = core.inspect(content);
    this.#contents.set(digest, content);
    this.#uses.set(digest, (this.#uses.get(digest) ?? 0) + 1);
    return digest;
  }

  drop(core: Core, digest: string): void {
    const left = this.#uses.get(digest)! - 1;
    this.#uses.set(digest, left);
    if (left > 0) return;
    core.forget(digest);
    this.#contents.delete(digest);
    this.#uses.delete(digest);
  }

  async load(digest: string): Promise<PromptContent> {
    return this.#contents.get(digest)!;
  }
}

/** What answers: one prompt, or an ensemble's members in its order. */
export interface Contestant {
  prompts: readonly TaskPrompt[];
  active: Active;
}

export interface Judging extends Contestant {
  core: Core;
  shelf: Shelf;
  task: Pick<Task, "labels">;
  /** Called before each example. */
  tell?: () => void;
  /** What the item at an index is called where it can't be answered. */
  nameOf?: (index: number) => string;
}

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

/** What losses are of. Shares of votes are no probabilities, and may be none at all: theirs are those of the members' mean. */
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
  labels: readonly LabelVerbalizers[],
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

/** An input with every text that would do. */
export interface TextCase {
  input: Example["input"];
  wanted: readonly string[];
}

export interface Written {
  /** Whether it ended by itself, not at the limit. */
  ended: boolean;
  /** Greedily. */
  given: string;
  /** The same without white space around it. */
  text: string;
  /** Of each wanted text and EOS, with and without a space before it where a prompt may write one. */
  targets: readonly TargetScore[];
}

/** A text for every case, and how probable the wanted ones are, in the cases' order. */
export function write(
  judging: Judging,
  cases: readonly TextCase[],
  limits: Pick<GenerateRequest, "maxTokens" | "jsonSchema">,
): Promise<Written[]> {
  const { core } = judging;
  return onShelf(judging, ([member]) =>
    sideBySide(judging, cases, async ({ input, wanted }) => {
      const ask = (targets: string[] | undefined, most: typeof limits) =>
        core.infer(
          {
            kind: "generate",
            prompt: member!.digest,
            fields: input,
            ...(targets && { targets, targetsEnd: true }),
            ...most,
            ...greedy,
          },
          patient,
        );
      const spelt = wanted.map(text => spellings(text, member!.template));
      // One input may have more references than one request takes.
      const [first, ...others] = listsOf(spelt.flat(), core.listedCharacters);
      const { text, targets = [], finishReason } = await ask(first, limits);
      const scores = [...targets];
      for (const list of others) scores.push(...(await ask(list, { maxTokens: 1 })).targets!);
      return {
        ended: finishReason === "stop",
        given: text,
        text: text.trim(),
        targets: joined(wanted, spelt, scores),
      };
    }),
  );
}

/** Each text once, in lists of so many characters together as a request may have. */
function listsOf(texts: readonly string[], most: number): string[][] {
  const lists: string[][] = [];
  let left = 0;
  for (const text of new Set(texts)) {
    if (lists.length === 0 || text.length > left) {
      lists.push([]);
      left = most;
    }
    lists.at(-1)!.push(text);
    left -= text.length;
  }
  return lists;
}

/** Of each text's spellings the probabilities together, and the tokens of the likeliest. */
function joined(
  texts: readonly string[],
  spelt: readonly (readonly string[])[],
  targets: readonly TargetScore[],
): TargetScore[] {
  const scores = new Map(targets.map(target => [target.text, target]));
  return texts.map((text, index) => {
    const found = spelt[index]!.map(spelling => scores.get(spelling)!);
    const likeliest = found.reduce((a, b) => (b.logprob > a.logprob ? b : a));
    const sum = found.reduce((total, { logprob }) => total + Math.exp(logprob - likeliest.logprob), 0);
    return { text, tokens: likeliest.tokens, logprob: likeliest.logprob + Math.log(sum) };
  });
}

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

interface Member {
  digest: string;
  template: ReturnType<typeof compileTemplate>;
  verbalizers: Verbalizers | undefined;
}

/** Puts the prompts where the engine finds them, for as long as `work` takes. */
async function onShelf<Result>(
  { core, shelf, prompts }: Judging,
  work: (members: readonly Member[]) => Promise<Result>,
): Promise<Result> {
  const members = prompts.map(content => ({
    digest: shelf.put(core, content),
    template: compileTemplate(content.template),
    verbalizers: content.verbalizers,
  }));
  try {
    return await work(members);
  } finally {
    for (const { digest } of members) shelf.drop(core, digest);
  }
}

/** An example can't be sent with "truncate", which is what serving advises. */
function toldHere({ code, message, fields }: ForewordError): string {
  if (code !== "input_too_long" || fields.tokens === undefined) return message;
  return `The input has ${fields.tokens} tokens or more, and at most ${fields.limit} fit. Shorten it, or leave it out.`;
}

/** `AT_ONCE` items are always under way, so that no run has a few late rows alone. */
async function sideBySide<Item, Result>(
  { tell, nameOf }: Judging,
  items: readonly Item[],
  work: (item: Item) => Promise<Result>,
): Promise<Result[]> {
  const results: Result[] = [];
  const queue = items.entries();
  let failed = false;
  const worker = async () => {
    for (const [index, item] of queue) {
      if (failed) return;
      try {
        tell?.();
        results[index] = await work(item);
      } catch (error) {
        failed = true;
        if (!nameOf || !(error instanceof ForewordError)) throw error;
        throw ForewordError.fromProblem({
          ...error.toProblem(),
          detail: `${nameOf(index)}: ${toldHere(error)}`,
        });
      }
    }
  };
  await Promise.all(Array.from({ length: AT_ONCE }, worker));
  return results;
}

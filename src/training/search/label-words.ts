/** Other texts for labels: how they are written, and what the backbone itself would say of their examples. */
import type { Example } from "../../contract/dataset.ts";
import type { Task, Verbalizers } from "../../contract/task.ts";
import { type Core, patient } from "../../engine/core.ts";
import { greedy, type PromptContent } from "../../engine/engine.ts";
import { orElse } from "../../errors.ts";
import { compileTemplate } from "../../prompt/template.ts";
import { verbalize } from "../../prompt/verbalizer.ts";
import { labelsOf } from "../check.ts";
import { answerOf } from "../examples.ts";
import type { Shelf } from "../shelf.ts";
import type { Candidate } from "./candidates.ts";

/** Labels beyond which words of their own are not looked for: each needs several examples. */
const MOST_LABELS = 32;
/** Next tokens that an example tells. */
const TOP = 20;
/** The probability that a token has if it is not among them. */
const FLOOR = 1e-5;

/**
 * The candidate with other verbalizers: capitalised, and for each label the next token whose probability its examples
 * raise most behind its prompt (in the manner of Gao et al. 2021, label words), alone and beside its own.
 */
export async function otherWords(
  { core, shelf }: { core: Core; shelf: Shelf },
  task: Pick<Task, "labels">,
  candidate: Candidate,
  prompt: PromptContent,
  examples: readonly Example[],
): Promise<Candidate[]> {
  const labels = labelsOf(task);
  const own = verbalize(task.labels!, compileTemplate(candidate.template), candidate.verbalizers);
  const named = (name: string, words: Verbalizers): Candidate => ({
    ...candidate,
    name: `${candidate.name}, ${name}`,
    source: "verbalizers",
    verbalizers: words,
  });
  const capitals = Object.fromEntries(own.map(({ label, verbalizers: [first] }) => [label, capital(first!)]));
  const made = [named("capitals", capitals)];
  if (labels.length > MOST_LABELS) return different(made, own);
  const found = await telling(core, shelf, prompt, labels, examples);
  if (!found) return different(made, own);
  const both = Object.fromEntries(
    own.map(({ label, verbalizers }) => [label, [...new Set([...verbalizers, found[label]!])]]),
  );
  return different([...made, named("found words", found), named("found words too", both)], own);
}

/** Without those that say nothing new. */
function different(candidates: readonly Candidate[], own: ReturnType<typeof verbalize>): Candidate[] {
  const keyOf = (words: Readonly<Record<string, string | readonly string[]>>) =>
    JSON.stringify(own.map(({ label }) => [words[label]].flat()));
  const seen = new Set([keyOf(Object.fromEntries(own.map(each => [each.label, each.verbalizers])))]);
  return candidates.filter(({ verbalizers }) => {
    const key = keyOf(verbalizers!);
    return seen.has(key) ? false : seen.add(key);
  });
}

const capital = (text: string): string => text.replace(/\p{L}/u, letter => letter.toUpperCase());

/** A token for each label; null where there are too few examples, or tokens, to tell them apart. */
async function telling(
  core: Core,
  shelf: Shelf,
  prompt: PromptContent,
  labels: readonly string[],
  examples: readonly Example[],
): Promise<Record<string, string> | null> {
  const shares = new Map(labels.map(label => [label, [] as Map<string, number>[]]));
  const digest = shelf.put(core, prompt);
  try {
    await Promise.all(
      examples.map(async example => {
        const next = await nextTokens(core, digest, example).catch(orElse(null, "input_too_long"));
        if (next !== null) shares.get(answerOf(example))?.push(next);
      }),
    );
  } finally {
    shelf.drop(core, digest);
  }
  if ([...shares.values()].some(rows => rows.length === 0)) return null;
  const tokens = new Set([...shares.values()].flat().flatMap(row => [...row.keys()]));
  const mean = (rows: readonly Map<string, number>[], token: string) =>
    rows.reduce((sum, row) => sum + (row.get(token) ?? FLOOR), 0) / rows.length;
  const gains = labels.flatMap(label =>
    [...tokens]
      .filter(token => token.trim() !== "" && /[\p{L}\p{N}]/u.test(token))
      .map(token => {
        const mine = mean(shares.get(label)!, token);
        const others = labels.reduce((sum, each) => sum + mean(shares.get(each)!, token), 0) / labels.length;
        return { label, token, gain: mine * Math.log(mine / others) };
      }),
  );
  const chosen: Record<string, string> = {};
  const taken = new Set<string>();
  for (const { label, token } of gains.sort((a, b) => b.gain - a.gain)) {
    if (Object.hasOwn(chosen, label) || taken.has(token)) continue;
    chosen[label] = token;
    taken.add(token);
  }
  return labels.every(label => Object.hasOwn(chosen, label)) ? chosen : null;
}

async function nextTokens(core: Core, prompt: string, { input }: Example): Promise<Map<string, number>> {
  const { logprobs } = await core.infer(
    {
      kind: "generate",
      prompt,
      fields: input,
      maxTokens: 1,
      ...greedy,
      logprobs: TOP,
    },
    patient,
  );
  return new Map((logprobs?.[0]?.top ?? []).map(({ token, logprob }) => [token, Math.exp(logprob)]));
}

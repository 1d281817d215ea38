/** Texts that prompts write for inputs, and how probable the wanted ones are. */
import type { Example } from "../../contract/dataset.ts";
import type { TargetScore } from "../../contract/infer.ts";
import { patient } from "../../engine/core.ts";
import { type GenerateRequest, greedy } from "../../engine/engine.ts";
import { spellings } from "../../prompt/verbalizer.ts";
import { type Judging, onShelf, sideBySide } from "./judging.ts";

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
  /** The score of each wanted text with EOS. If the prompt may write a space first, both spellings count. */
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

/** Adds up the probabilities of each text's spellings; the tokens are those of the likeliest one. */
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

/** Which tokens lead a text of JSON to its end, chosen without the model. */
import type { JsonTokens } from "./json-tokens.ts";

/** What a token counts that was not tried yet: a way to the end that took fewer tokens is taken again. */
const UNTRIED = 64;
/** Between values there may always be one more blank, and there need not be. */
const USELESS = 1e9;

interface Use {
  /** Uses whose object, or item of a list, has no end yet. */
  open: number;
  /** Uses that led to it, and the tokens that it took. */
  ended: number;
  length: number;
}

/**
 * What ends something comes first. Of all else, what led to an end soonest: once a tree has one leaf, its nodes are
 * leaves. What has led to none yet counts more with each use, so that in a pattern that may go on for ever, its way out
 * has its turn.
 */
export class Closing {
  readonly #tokens: JsonTokens;
  /** By what was allowed, then by rank in `closing`: a letter begins one value and stands within another's name. */
  readonly #uses = new Map<number, Map<number, Use>>();
  /** Those without an end, the innermost last. */
  readonly #open: { use: Use; depth: number; from: number }[] = [];
  #length = 0;

  constructor(tokens: JsonTokens) {
    this.#tokens = tokens;
  }

  /** Undefined where the mask allows none. `depth`: objects and lists that the text is in. */
  next(mask: Int32Array, { inString, depth }: { inString: boolean; depth: number }): number | undefined {
    this.#length++;
    const { closing, closers, quote } = this.#tokens;
    const end = (inString ? [quote] : closing.slice(0, closers)).find(token => allows(mask, token));
    if (end !== undefined) return end;
    const key = mask.reduce((hash, word) => Math.imul(hash ^ word, 16_777_619), 0);
    const uses = this.#uses.get(key) ?? new Map<number, Use>();
    this.#uses.set(key, uses);
    const rank = this.#best(uses, mask, inString);
    if (rank === undefined) return undefined;
    const use = uses.get(rank) ?? { open: 0, ended: 0, length: 0 };
    uses.set(rank, use);
    use.open++;
    this.#open.push({ use, depth, from: this.#length });
    return closing[rank];
  }

  /** What was begun at that depth or further in has its end. */
  end(depth: number): void {
    while ((this.#open.at(-1)?.depth ?? -1) >= depth) {
      const { use, from } = this.#open.pop()!;
      use.open--;
      use.ended++;
      use.length += this.#length - from;
    }
  }

  #best(uses: ReadonlyMap<number, Use>, mask: Int32Array, inString: boolean): number | undefined {
    const { closing, closers, blanks } = this.#tokens;
    let best: number | undefined;
    let least = Number.POSITIVE_INFINITY;
    const look = (rank: number, count: number): void => {
      if (count < least && allows(mask, closing[rank]!)) [best, least] = [rank, count];
    };
    // In a string, letters go before brackets and blanks, which end nothing there.
    const guess = (rank: number): number => {
      if (rank < closers) return UNTRIED + UNTRIED + rank;
      if (rank < blanks) return UNTRIED + rank;
      return inString ? UNTRIED + UNTRIED + rank - blanks : USELESS;
    };
    for (const [rank, { open, ended, length }] of uses)
      look(rank, (ended > 0 ? length / ended : guess(rank)) + open * guess(rank));
    const lookUntried = (from: number, to: number): void => {
      for (let rank = from; rank < to && guess(rank) < least; rank++)
        if (!uses.has(rank)) look(rank, guess(rank));
    };
    lookUntried(closers, blanks);
    lookUntried(0, closers);
    lookUntried(blanks, closing.length);
    return best;
  }
}

const allows = (mask: Int32Array, token: number) => ((mask[token >>> 5]! >>> (token & 31)) & 1) === 1;

/** One text of JSON, token by token, in the thread that has its grammar. */
import { setImmediate as turn } from "node:timers/promises";
import type { JsonTokens, Utf8 } from "./json-tokens.ts";
import type { XGrammar } from "./xgrammar.ts";

export type Matcher = Awaited<ReturnType<XGrammar["GrammarMatcher"]["createGrammarMatcher"]>>;

/** What is promised ends after a few dozen tokens, or as many as its shortest value has characters. */
const MOST_CLOSING = 16_384;
/** Of them without letting others have their turn. */
const AT_ONCE = 16;
/** Uses of all else after which a blank has its turn. */
const BLANK = 64;

export class JsonMatcher {
  readonly #matcher: Matcher;
  readonly #tokens: JsonTokens;
  readonly #utf8: Utf8;
  /** Bytes of a character that is not whole yet. */
  #begun: Uint8Array = new Uint8Array(0);

  constructor(matcher: Matcher, tokens: JsonTokens, utf8: Utf8) {
    this.#matcher = matcher;
    this.#tokens = tokens;
    this.#utf8 = utf8;
  }

  accept(token: number): void {
    this.#begun = this.#utf8.after(this.#begun, token);
    this.#matcher.acceptToken(token);
  }

  /** Tokens that may come next, a bit each, token 0 lowest; null at the end. */
  async mask(): Promise<Int32Array<ArrayBuffer> | null> {
    if (this.#matcher.isTerminated()) return null;
    const mask = (await this.#matcher.getNextTokenBitmask()) as Int32Array<ArrayBuffer>;
    for (const token of this.#utf8.refusedAfter(this.#begun)) mask[token >>> 5]! &= ~(1 << (token & 31));
    return mask;
  }

  /** Tokens that bring what was begun to an end. */
  async close(): Promise<number[]> {
    const tokens: number[] = [];
    const uses = new Map<number, number>();
    while (tokens.length < MOST_CLOSING) {
      if (tokens.length % AT_ONCE === AT_ONCE - 1) await turn();
      const mask = await this.mask();
      const token = mask && leastUsed(uses, this.#tokens, each => allows(mask, each));
      if (token === undefined || token === null) break;
      this.accept(token);
      tokens.push(token);
    }
    return tokens;
  }

  dispose(): void {
    this.#matcher.dispose();
  }
}

const allows = (mask: Int32Array, token: number) => ((mask[token >>> 5]! >>> (token & 31)) & 1) === 1;

/**
 * What ends something comes first. Of all else what was used least: in a pattern that may go on for ever, its way out
 * has its turn.
 */
function leastUsed(
  uses: Map<number, number>,
  { closing, closers, blanks }: JsonTokens,
  allows: (token: number) => boolean,
): number | undefined {
  let best: number | undefined;
  let least = Number.POSITIVE_INFINITY;
  for (const [rank, token] of closing.entries()) {
    const used = (uses.get(token) ?? 0) + (rank < blanks ? 0 : BLANK);
    if (used >= least || !allows(token)) continue;
    best = token;
    least = used;
    if (rank < closers || used === 0) break;
  }
  if (best !== undefined) uses.set(best, (uses.get(best) ?? 0) + 1);
  return best;
}

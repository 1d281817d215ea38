/** One text of JSON, token by token, in the thread that has its grammar. */
import { setImmediate as turn } from "node:timers/promises";
import { Closing } from "./json-closing.ts";
import { Nesting } from "./json-nesting.ts";
import type { JsonTokens, Utf8 } from "./json-tokens.ts";
import type { XGrammar } from "./xgrammar.ts";

export type Matcher = Awaited<ReturnType<XGrammar["GrammarMatcher"]["createGrammarMatcher"]>>;

/** What is promised ends after a few dozen tokens, or as many as its shortest value has characters. */
const MOST_CLOSING = 16_384;
/** How many of them are written before others have their turn. */
const AT_ONCE = 16;

export class JsonMatcher {
  readonly #matcher: Matcher;
  readonly #tokens: JsonTokens;
  readonly #utf8: Utf8;
  /** Bytes of a character that is not whole yet. */
  #begun: Uint8Array = new Uint8Array(0);
  readonly #nesting: Nesting;

  /** `signs` are those of `tokens`, by token. */
  constructor(matcher: Matcher, tokens: JsonTokens, utf8: Utf8, signs: ReadonlyMap<number, string>) {
    this.#matcher = matcher;
    this.#tokens = tokens;
    this.#utf8 = utf8;
    this.#nesting = new Nesting(signs);
  }

  /** `ended` is told from which depth on all that was begun has its end. */
  accept(token: number, ended: (depth: number) => void = () => {}): void {
    this.#begun = this.#utf8.after(this.#begun, token);
    this.#nesting.add(token, ended);
    this.#matcher.acceptToken(token);
  }

  /** Tokens that may come next, a bit each, token 0 lowest; null at the end. */
  async mask(): Promise<Int32Array<ArrayBuffer> | null> {
    if (this.#matcher.isTerminated()) return null;
    const mask = (await this.#matcher.getNextTokenBitmask()) as Int32Array<ArrayBuffer>;
    for (const token of this.#utf8.refusedAfter(this.#begun)) mask[token >>> 5]! &= ~(1 << (token & 31));
    return mask;
  }

  /** Tokens that bring what was begun to an end; null where it has none, or too many lead there. */
  async close(): Promise<number[] | null> {
    const tokens: number[] = [];
    const closing = new Closing(this.#tokens);
    while (tokens.length < MOST_CLOSING) {
      if (tokens.length % AT_ONCE === AT_ONCE - 1) await turn();
      const mask = await this.mask();
      if (!mask) return tokens;
      const token = closing.next(mask, this.#nesting);
      if (token === undefined) return null;
      this.accept(token, depth => closing.end(depth));
      tokens.push(token);
    }
    return null;
  }

  dispose(): void {
    this.#matcher.dispose();
  }
}

/** JSON by schema, token by token: grammars over one backbone's vocabulary, by XGrammar (Dong et al. 2024). */
import { setImmediate as turn } from "node:timers/promises";
import type { Tokenizer } from "../backbone/tokenizer.ts";
import { ForewordError } from "../errors.ts";
import type { Constraint } from "./constraint.ts";
import type { Schema } from "./json-pointer.ts";
import { promised } from "./json-schema.ts";
import { type JsonTokens, jsonTokens, unfinished } from "./json-tokens.ts";
import { loadXGrammar, type XGrammar } from "./xgrammar.ts";

/** What is promised ends after a few dozen tokens, or as many as its shortest value has characters. */
const MOST_CLOSING = 16_384;
/** Compiled schemas that are kept. */
const KEPT = 32;
/** Of them without letting others have their turn. */
const AT_ONCE = 16;

export class Grammars {
  readonly #tokenizer: Tokenizer;
  readonly #size: number;
  #tokens: JsonTokens | null = null;
  #loaded: Promise<Loaded> | null = null;
  #last: Promise<unknown> = Promise.resolve();

  constructor(tokenizer: Tokenizer, size: number) {
    this.#tokenizer = tokenizer;
    this.#size = size;
  }

  /**
   * JSON that satisfies the schema. Throws what `promised` throws, and `validation` where it cannot be compiled. One
   * schema after another: XGrammar gives up on a bad one with its locks held, and the next to use that copy of it would
   * wait for ever.
   */
  async json(schema: object): Promise<JsonConstraint> {
    const kept = JSON.stringify(promised(schema as Schema));
    const made = this.#last.then(() => this.#compile(kept));
    this.#last = made.catch(() => {});
    return made;
  }

  async #compile(schema: string): Promise<JsonConstraint> {
    this.#tokens ??= jsonTokens(this.#tokenizer, this.#size);
    this.#loaded ??= this.#load(this.#tokens);
    const loading = this.#loaded;
    const { xgrammar, compiler, compiled, complaints } = await loading;
    // Rows that are under way keep the old copy; it goes with the last of them.
    const giveUp = () => {
      if (this.#loaded === loading) this.#loaded = null;
    };
    complaints.length = 0;
    try {
      const grammar = compiled.get(schema) ?? (await compiler.compileJSONSchema(schema));
      // The last one used stands last.
      compiled.delete(schema);
      compiled.set(schema, grammar);
      const [oldest] = compiled.keys();
      if (compiled.size > KEPT) {
        compiled.get(oldest!)!.dispose();
        compiled.delete(oldest!);
      }
      const matcher = await xgrammar.GrammarMatcher.createGrammarMatcher(grammar);
      const constraint = new JsonConstraint(matcher, this.#tokens, giveUp);
      await constraint.refresh();
      return constraint;
    } catch (error) {
      giveUp();
      const why = complaints.at(-1) ?? String((error as Error).message ?? error);
      const detail = `json_schema cannot be compiled: ${why.replace(/^\[FATAL\] \S+ /, "")}. Correct or simplify it.`;
      throw new ForewordError("validation", detail, { field: "json_schema" });
    }
  }

  async #load({ words }: JsonTokens): Promise<Loaded> {
    const complaints: string[] = [];
    const xgrammar = await loadXGrammar(line => complaints.push(line));
    const { vocabularyType, eosIds } = this.#tokenizer;
    const info = await xgrammar.TokenizerInfo.createTokenizerInfo(
      [...words],
      vocabularyType,
      false,
      this.#size,
      [...eosIds],
    );
    // Its own cache keeps all that it ever compiled.
    const compiler = await xgrammar.GrammarCompiler.createGrammarCompiler(info, false);
    return { xgrammar, compiler, compiled: new Map(), complaints };
  }
}

interface Loaded {
  xgrammar: XGrammar;
  compiler: Compiler;
  /** By schema, the last one used last. */
  compiled: Map<string, Awaited<ReturnType<Compiler["compileJSONSchema"]>>>;
  /** What it wrote of the schema that it compiles; the last line says why it gave up. */
  complaints: string[];
}
type Compiler = Awaited<ReturnType<XGrammar["GrammarCompiler"]["createGrammarCompiler"]>>;
type Matcher = Awaited<ReturnType<XGrammar["GrammarMatcher"]["createGrammarMatcher"]>>;

export class JsonConstraint implements Constraint {
  readonly #matcher: Matcher;
  readonly #tokens: JsonTokens;
  /** Null while XGrammar works it out, which it does within microtasks: long before the next step's logits are there. */
  #bitmask: Int32Array | null = null;
  #refreshed: Promise<void> = Promise.resolve();
  #failed: Error | null = null;
  readonly #broken: () => void;
  /** Bytes of a character that is not whole yet. */
  #begun: Uint8Array = new Uint8Array(0);

  /** `broken` is called where XGrammar fails, which ends this answer alone: its memory may be full. */
  constructor(matcher: Matcher, tokens: JsonTokens, broken: () => void) {
    this.#matcher = matcher;
    this.#tokens = tokens;
    this.#broken = broken;
  }

  /** Resolves when `mask` can answer. */
  settled(): Promise<void> {
    return this.#refreshed;
  }

  refresh(): Promise<void> {
    this.#bitmask = null;
    this.#refreshed = this.#matcher.getNextTokenBitmask().then(bitmask => {
      this.#bitmask = bitmask;
    });
    return this.#refreshed;
  }

  mask(logits: Float32Array): void {
    if (this.#failed) throw this.#failed;
    if (!this.#bitmask) throw new Error("the grammar's bitmask is not there yet");
    for (let token = 0; token < logits.length; token++)
      if (!this.#inGrammar(token)) logits[token] = -Infinity;
    for (const token of this.#tokens.refusedAfter(this.#begun)) logits[token] = -Infinity;
  }

  accept(token: number): void {
    const bytes = this.#tokens.partial.get(token);
    this.#begun = (bytes && unfinished([...this.#begun, ...bytes])) ?? new Uint8Array(0);
    this.#matcher.acceptToken(token);
    if (this.#matcher.isTerminated()) return;
    // Told when the mask is asked for.
    this.refresh().catch(error => {
      this.#failed = error;
      this.#broken();
    });
  }

  async close(): Promise<number[]> {
    const tokens: number[] = [];
    const uses = new Map<number, number>();
    while (tokens.length < MOST_CLOSING && !this.#matcher.isTerminated()) {
      if (tokens.length % AT_ONCE === AT_ONCE - 1) await turn();
      await this.#refreshed;
      const refused = this.#tokens.refusedAfter(this.#begun);
      const token = leastUsed(uses, this.#tokens, each => this.#inGrammar(each) && !refused.has(each));
      if (token === undefined) break;
      this.accept(token);
      tokens.push(token);
    }
    return tokens;
  }

  dispose(): void {
    const end = () => this.#matcher.dispose();
    this.#refreshed.then(end, end).catch(this.#broken);
  }

  #inGrammar(token: number): boolean {
    return ((this.#bitmask![token >>> 5]! >>> (token & 31)) & 1) === 1;
  }
}

/** Uses of all else after which a blank has its turn. */
const BLANK = 64;

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

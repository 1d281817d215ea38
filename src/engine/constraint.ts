/** What the next token may be. */
import type { Tokenizer } from "../backbone/tokenizer.ts";
import { ForewordError } from "../errors.ts";
import { loadXGrammar, type XGrammar } from "./xgrammar.ts";

export interface Constraint {
  /** Sets the logits of tokens that may not follow to -Infinity. */
  mask(logits: Float32Array): void;
  /** Takes note of the token that was chosen. */
  accept(token: number): void;
  dispose(): void;
}

/** One of several texts, then EOS. */
export function choiceConstraint(sequences: readonly (readonly number[])[], eos: number): Constraint {
  let open = sequences.map(sequence => [...sequence, eos]);
  let depth = 0;
  return {
    mask(logits) {
      const allowed = new Map(open.map(sequence => [sequence[depth]!, logits[sequence[depth]!]!]));
      logits.fill(-Infinity);
      for (const [token, logit] of allowed) logits[token] = logit;
    },
    accept(token) {
      open = open.filter(sequence => sequence[depth] === token);
      depth++;
    },
    dispose() {},
  };
}

/** Grammars over one backbone's vocabulary, by XGrammar (Dong et al. 2024). */
export class Grammars {
  readonly #tokenizer: Tokenizer;
  readonly #size: number;
  #loaded: Promise<Loaded> | null = null;
  #last: Promise<unknown> = Promise.resolve();

  constructor(tokenizer: Tokenizer, size: number) {
    this.#tokenizer = tokenizer;
    this.#size = size;
  }

  /**
   * JSON that satisfies the schema. Throws `validation` where the schema cannot be compiled. One schema after another:
   * XGrammar gives up on a bad one with its locks held, and the next to use that copy of it would wait for ever.
   */
  json(schema: object): Promise<Constraint> {
    const made = this.#last.then(() => this.#compile(JSON.stringify(schema)));
    this.#last = made.catch(() => {});
    return made;
  }

  async #compile(schema: string): Promise<Constraint> {
    this.#loaded ??= this.#load();
    const { xgrammar, compiler, complaints } = await this.#loaded;
    try {
      const compiled = await compiler.compileJSONSchema(schema);
      const matcher = await xgrammar.GrammarMatcher.createGrammarMatcher(compiled);
      compiled.dispose();
      const constraint = new JsonConstraint(matcher, this.#size);
      await constraint.refresh();
      return constraint;
    } catch (error) {
      // Rows that are under way keep the old copy; it goes with the last of them.
      this.#loaded = null;
      const why = complaints[0] ?? String((error as Error).message ?? error);
      const detail = `json_schema cannot be compiled: ${why.replace(/^\[FATAL\] \S+ /, "")}. Correct or simplify it.`;
      throw new ForewordError("validation", detail, { field: "json_schema" });
    }
  }

  async #load(): Promise<Loaded> {
    const complaints: string[] = [];
    const xgrammar = await loadXGrammar(line => complaints.push(line));
    const { vocabularyType, eosIds } = this.#tokenizer;
    const words = this.#tokenizer.vocabulary(this.#size);
    const info = await xgrammar.TokenizerInfo.createTokenizerInfo(words, vocabularyType, false, this.#size, [
      ...eosIds,
    ]);
    return { xgrammar, compiler: await xgrammar.GrammarCompiler.createGrammarCompiler(info), complaints };
  }
}

interface Loaded {
  xgrammar: XGrammar;
  compiler: Compiler;
  /** What it wrote; its first line says why it gave up. */
  complaints: readonly string[];
}
type Compiler = Awaited<ReturnType<XGrammar["GrammarCompiler"]["createGrammarCompiler"]>>;
type Matcher = Awaited<ReturnType<XGrammar["GrammarMatcher"]["createGrammarMatcher"]>>;

class JsonConstraint implements Constraint {
  readonly #matcher: Matcher;
  readonly #width: number;
  /** Null while XGrammar works it out, which it does within microtasks: long before the next step's logits are there. */
  #bitmask: Int32Array | null = null;
  #refreshed: Promise<void> = Promise.resolve();

  constructor(matcher: Matcher, width: number) {
    this.#matcher = matcher;
    this.#width = width;
  }

  refresh(): Promise<void> {
    this.#bitmask = null;
    this.#refreshed = this.#matcher.getNextTokenBitmask().then(bitmask => {
      this.#bitmask = bitmask;
    });
    return this.#refreshed;
  }

  mask(logits: Float32Array): void {
    if (!this.#bitmask) throw new Error("the grammar's bitmask is not there yet");
    for (let token = 0; token < this.#width; token++) {
      if (((this.#bitmask[token >>> 5]! >>> (token & 31)) & 1) === 0) logits[token] = -Infinity;
    }
  }

  accept(token: number): void {
    this.#matcher.acceptToken(token);
    if (!this.#matcher.isTerminated()) void this.refresh();
  }

  dispose(): void {
    void this.#refreshed.finally(() => this.#matcher.dispose());
  }
}

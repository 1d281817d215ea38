/**
 * JSON by schema, token by token: grammars over one backbone's vocabulary, by XGrammar (Dong et al. 2024), each in a
 * thread of its own. A schema may compile for seconds: meanwhile the engine goes on, and rows of other schemas get their
 * masks. If a schema fills XGrammar's memory, or makes XGrammar fail, no other schema is affected.
 */
import type { Tokenizer } from "../backbone/tokenizer.ts";
import { ForewordError, shuttingDown } from "../errors.ts";
import { ByText } from "./by-text.ts";
import type { GrammarThreadData } from "./grammar-protocol.ts";
import { GrammarThread } from "./grammar-thread.ts";
import type { JsonConstraint } from "./json-constraint.ts";
import { compileCost } from "./json-cost.ts";
import type { Schema } from "./json-pointer.ts";
import { promised } from "./json-schema.ts";
import { jsonTokens } from "./json-tokens.ts";
import { always, type Wanted } from "./prefix-cache.ts";

/** Threads, each with one schema: some 40 MB. */
const THREADS = 8;
/** How long a schema that nobody asks for keeps its thread. */
const IDLE_MS = 600_000;
/** How long a schema waits for a thread without rows, until one that others ask for must give up its own. */
const PATIENCE_MS = 2000;
/** Memory for schemas in the form that is promised: each input of a request brings its own copy of the same one. */
const PROMISED_BYTES = 16 * 2 ** 20;
/** Schemas that wait to be compiled. */
const MOST_WAITING = 64;
/** What costs more compiles in a lane of its own, so that what takes a moment does not wait for what takes seconds. */
const QUICK = 50;

/** A schema as it is promised. */
interface Compilable {
  readonly schema: string;
  readonly cost: number;
}

interface Kept {
  readonly schema: string;
  readonly asked: Wanted[];
  /** Those who wait for it, and rows. */
  users: number;
  ready: Promise<GrammarThread>;
  /** Null until it is compiled. */
  thread: GrammarThread | null;
  idle: NodeJS.Timeout | undefined;
}

export class Grammars {
  readonly #tokenizer: Tokenizer;
  readonly #size: number;
  #data: GrammarThreadData | null = null;
  readonly #promised = new ByText<object, Compilable>(PROMISED_BYTES, ({ schema }) => 2 * schema.length);
  /** By schema, the last one asked for last. */
  readonly #kept = new Map<string, Kept>();
  readonly #threads = new Set<GrammarThread>();
  /** One after another in each. */
  readonly #lanes = {
    quick: Promise.resolve() as Promise<unknown>,
    slow: Promise.resolve() as Promise<unknown>,
  };
  #waiting = 0;
  /** Those who wait for a thread to have nothing to do. */
  #hopeful: (() => void)[] = [];
  #closed = false;

  constructor(tokenizer: Tokenizer, size: number) {
    this.#tokenizer = tokenizer;
    this.#size = size;
  }

  /** Schemas that were compiled. */
  compiles = 0;

  /**
   * JSON that satisfies the schema. Throws what `promised` throws, `validation` where it cannot be compiled, and
   * `queue_full`. What nobody wants any more when its turn comes is not compiled.
   */
  async json(given: object, wanted: Wanted = always): Promise<JsonConstraint> {
    const { schema, cost } = this.#promised.take(given, () => compilable(given));
    const kept = this.#kept.get(schema) ?? this.#queue(schema, cost);
    this.#kept.delete(schema);
    this.#kept.set(schema, kept);
    clearTimeout(kept.idle);
    kept.users++;
    if (!kept.thread) kept.asked.push(wanted);
    try {
      const thread = await kept.ready;
      return await thread.open(() => this.#leave(kept));
    } catch (error) {
      this.#leave(kept);
      throw error;
    }
  }

  /** Whoever waits for a schema hears `draining`; rows go on. */
  stop(): void {
    this.#closed = true;
    this.#wake();
    for (const thread of this.#threads) if (thread.rows === 0) void this.#end(thread, shuttingDown());
  }

  /** Ends all threads. */
  async close(): Promise<void> {
    this.stop();
    await Promise.all([...this.#threads].map(thread => this.#end(thread, shuttingDown())));
  }

  #queue(schema: string, cost: number): Kept {
    if (this.#waiting >= MOST_WAITING)
      throw new ForewordError(
        "queue_full",
        `${MOST_WAITING} JSON schemas wait to be compiled already, which is the limit. Try again in a moment.`,
      );
    this.#waiting++;
    const lane = cost > QUICK ? "slow" : "quick";
    const kept: Kept = { schema, asked: [], users: 0, ready: null!, thread: null, idle: undefined };
    kept.ready = this.#lanes[lane].then(() => this.#compile(kept));
    this.#lanes[lane] = kept.ready.catch(() => {});
    return kept;
  }

  async #compile(kept: Kept): Promise<GrammarThread> {
    try {
      const thread = await this.#vacant(kept);
      this.compiles++;
      await thread.compile(kept.schema);
      kept.thread = thread;
      kept.asked.length = 0;
      return thread;
    } catch (error) {
      this.#drop(kept);
      throw error;
    } finally {
      this.#waiting--;
    }
  }

  /**
   * A new thread, or that of the schema that was not asked for for longest, once there is one without rows. Where all
   * always have rows, that schema is given up after a while: its thread takes no new ones, and ends with its last.
   */
  async #vacant({ asked }: Kept): Promise<GrammarThread> {
    let patient = true;
    let ending = false;
    const patience = setTimeout(() => {
      patient = false;
      this.#wake();
    }, PATIENCE_MS).unref();
    try {
      while (true) {
        if (this.#closed) throw shuttingDown();
        if (!asked.some(wanted => wanted()))
          throw new ForewordError("deadline", "Nobody waits for this JSON schema any more.");
        if (this.#threads.size < THREADS) return this.#start();
        const compiled = [...this.#kept.values()].filter(({ thread }) => thread);
        const idle = compiled.find(({ users }) => users === 0);
        if (idle) {
          this.#drop(idle);
          return idle.thread!;
        }
        if (!patient && !ending && compiled[0]) {
          this.#drop(compiled[0]);
          ending = true;
        }
        await new Promise<void>(resolve => this.#hopeful.push(resolve));
      }
    } finally {
      clearTimeout(patience);
    }
  }

  #start(): GrammarThread {
    const thread: GrammarThread = new GrammarThread(this.#shared(), () => this.#spoilt(thread));
    this.#threads.add(thread);
    return thread;
  }

  /** The vocabulary lies once in memory that all threads see. */
  #shared(): GrammarThreadData {
    if (this.#data) return this.#data;
    const { vocabularyType, eosIds } = this.#tokenizer;
    const json = Buffer.from(JSON.stringify(jsonTokens(this.#tokenizer, this.#size)));
    const tokens = new SharedArrayBuffer(json.length);
    json.copy(new Uint8Array(tokens));
    this.#data = { tokens, vocabularyType, size: this.#size, eosIds: [...eosIds] };
    return this.#data;
  }

  /** The next request for its schema compiles it anew; the thread goes with the last of its rows. */
  #spoilt(thread: GrammarThread): void {
    const kept = [...this.#kept.values()].find(each => each.thread === thread);
    if (kept) this.#drop(kept);
    if (thread.rows === 0) void this.#end(thread);
  }

  #drop(kept: Kept): void {
    clearTimeout(kept.idle);
    if (this.#kept.get(kept.schema) === kept) this.#kept.delete(kept.schema);
  }

  #leave(kept: Kept): void {
    kept.users--;
    const { thread } = kept;
    if (!thread || kept.users > 0) return;
    if (this.#kept.get(kept.schema) !== kept) void this.#end(thread);
    else {
      const end = () => {
        this.#drop(kept);
        void this.#end(thread);
      };
      kept.idle = setTimeout(end, IDLE_MS).unref();
      this.#wake();
    }
  }

  async #end(thread: GrammarThread, why?: Error): Promise<void> {
    await thread.end(why);
    this.#threads.delete(thread);
    this.#wake();
  }

  #wake(): void {
    for (const resolve of this.#hopeful.splice(0)) resolve();
  }
}

function compilable(given: object): Compilable {
  const schema = promised(given as Schema);
  return { schema: JSON.stringify(schema), cost: compileCost(schema).total };
}

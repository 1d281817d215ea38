/**
 * Continuous batching (Yu et al. 2022, Orca): rows of any tasks share every step. A request is a generator that yields
 * the work it needs next and is resumed with the results; new ones join at the next step, finished or abandoned ones
 * leave at once.
 */
import { ForewordError } from "../errors.ts";
import type { Batch } from "./batch.ts";
import { RunBudget } from "./budget.ts";
import { DecodePool, type KvBlock, type KvShape, positionBytes } from "./kv.ts";
import { type NextToken, type PrefillResult, type PrefillWork, workLength } from "./work.ts";

/** A row's place in the decode pool; the place changes when another row leaves. */
export interface Seat {
  row: number;
}

export type Work =
  | readonly PrefillWork[]
  | {
      readonly kind: "decode";
      readonly seat: Seat;
      readonly token: number;
      readonly logits: boolean;
      /** What its row needs besides the step to choose the next token; it never rejects. */
      readonly ready?: Promise<void> | undefined;
    };
export type Result = { prefilled: PrefillResult[]; next: null } | { prefilled: null; next: NextToken };
export type Program<Answer> = Generator<Work, Answer, Result>;

/** What a program may do besides yielding work. */
export interface Seats {
  take(past: readonly KvBlock[]): Seat;
  leave(seat: Seat): void;
}

export interface SubmitOptions {
  /** What its row takes to decode: positions that it begins with, and tokens that it may add; null where it does not. */
  seat: { length: number; tokens: number } | null;
  /** Whether it is fed in several runs: the next such request begins with the last run of the one before. */
  long?: boolean;
  deadline: number;
  /** Checked at each step. */
  cancelled: () => boolean;
  /** Begun and prefilled only while no other request waits or runs, or has just ended; one of them at a time decodes. */
  background?: boolean;
}

interface Running {
  readonly program: Program<unknown>;
  readonly options: SubmitOptions;
  readonly resolve: (answer: unknown) => void;
  readonly reject: (error: unknown) => void;
  /** Prefills that wait for a run, and the results that are there. */
  waiting: PrefillWork[];
  asked: readonly PrefillWork[];
  results: Map<PrefillWork, PrefillResult>;
  decode: Extract<Work, { kind: "decode" }> | null;
  /** Tokens that its row has added. */
  decoded: number;
}

export interface SchedulerLimits {
  /** Tokens of a prefill run. */
  batchTokens: number;
  /** Tokens of a prefill run while rows decode: bounds how long they wait. */
  batchTokensWhileDecoding: number;
  /** Keys and values, and as much of attention scores, that a prefill run holds. */
  runBytes: number;
  /** Rows that may decode at once. */
  seats: number;
  /** Bytes that their keys and values may take together. */
  seatBytes: number;
  /** Requests that may wait. */
  queue: number;
}

/** How long memory for rows is kept when nothing runs: the next burst is served without asking for it anew. */
const IDLE_MS = 10_000;

/** How long nothing must have run or waited before the background begins: whoever asks one after another never meets it. */
const QUIET_MS = 50;

export class Scheduler implements Seats {
  readonly #batch: Batch;
  readonly #pool: DecodePool;
  readonly #shape: KvShape & { heads: number };
  readonly #limits: SchedulerLimits;
  readonly #queue: Running[] = [];
  /** What waits in the background. */
  readonly #later: Running[] = [];
  readonly #running = new Set<Running>();
  readonly #seated: Seat[] = [];
  #stepping: Promise<void> | null = null;
  #freeing: NodeJS.Timeout | undefined;
  /** When the last request that is not in the background ended, and what ends the wait for quiet. */
  #left = Number.NEGATIVE_INFINITY;
  #wake = () => {};
  readonly counts = { steps: 0, rows: 0, prefillTokens: 0, decodeTokens: 0, stepSeconds: 0 };

  constructor(batch: Batch, shape: KvShape & { heads: number }, limits: SchedulerLimits) {
    this.#batch = batch;
    this.#shape = shape;
    this.#pool = new DecodePool(shape);
    this.#limits = limits;
  }

  get queued(): number {
    return this.#queue.length;
  }

  get running(): number {
    return this.#running.size;
  }

  submit<Answer>(program: Program<Answer>, options: SubmitOptions): Promise<Answer> {
    const queue = options.background ? this.#later : this.#queue;
    if (queue.length >= this.#limits.queue) {
      const detail = `${queue.length} requests wait already, which is the limit (FOREWORD_QUEUE). Try again in a moment.`;
      return Promise.reject(new ForewordError("queue_full", detail, { limit: this.#limits.queue }));
    }
    return new Promise<unknown>((resolve, reject) => {
      queue.push({
        program,
        options,
        resolve,
        reject,
        waiting: [],
        asked: [],
        results: new Map(),
        decode: null,
        decoded: 0,
      });
      if (!options.background) this.#wake();
      this.#stepping ??= this.#loop();
    }) as Promise<Answer>;
  }

  /** Resolves when nothing runs or waits any more. */
  async idle(): Promise<void> {
    while (this.#stepping) await this.#stepping;
  }

  take(past: readonly KvBlock[]): Seat {
    let expected = 0;
    for (const { options } of this.#running) if (options.seat) expected++;
    const seat: Seat = { row: this.#pool.admit(past, expected) };
    this.#seated.push(seat);
    return seat;
  }

  leave(seat: Seat): void {
    const { row } = seat;
    if (row < 0) return;
    this.#pool.release(row);
    const last = this.#seated.pop()!;
    if (last !== seat) {
      last.row = row;
      this.#seated[row] = last;
    }
    seat.row = -1;
  }

  async #loop(): Promise<void> {
    clearTimeout(this.#freeing);
    // Requests that arrive together should share the first step.
    await new Promise(setImmediate);
    while (this.#queue.length + this.#later.length + this.#running.size > 0) {
      if (this.#queue.length === 0 && !this.#busy) await this.#quiet();
      this.#dropAbandoned();
      this.#admit();
      const started = performance.now();
      await this.#decode();
      await this.#prefill();
      this.counts.steps++;
      this.counts.stepSeconds += (performance.now() - started) / 1000;
      // Messages (new requests, cancellations) are read between steps.
      await new Promise(setImmediate);
    }
    this.#stepping = null;
    this.#freeing = setTimeout(() => {
      this.#pool.free();
      this.#batch.free();
    }, IDLE_MS).unref();
  }

  /** Until it has been quiet for a while, or somebody comes. */
  async #quiet(): Promise<void> {
    const rest = this.#left + QUIET_MS - performance.now();
    if (rest <= 0) return;
    let timer: NodeJS.Timeout | undefined;
    await new Promise<void>(resolve => {
      this.#wake = resolve;
      timer = setTimeout(resolve, rest);
    });
    clearTimeout(timer);
  }

  #dropAbandoned(): void {
    const now = Date.now();
    const gone = ({ options }: Running) => options.cancelled() || options.deadline <= now;
    for (const request of this.#running) if (gone(request)) this.#fail(request, abandoned(request.options));
    for (const queue of [this.#queue, this.#later])
      for (const request of queue.filter(gone)) {
        queue.splice(queue.indexOf(request), 1);
        this.#fail(request, abandoned(request.options));
      }
  }

  /**
   * First come, first served, as far as seats and one run's tokens go, and long requests among themselves. A request
   * that waits for one of these holds up no request that does not need it. The background comes in if nothing else is
   * there.
   */
  #admit(): void {
    let seatsLeft = true;
    for (const request of [...this.#queue]) {
      const { seat } = request.options;
      if (!this.#mayWait(request)) continue;
      if (seat) seatsLeft &&= this.#seats(request);
      if (seat && !seatsLeft) continue;
      this.#queue.splice(this.#queue.indexOf(request), 1);
      this.#enter(request);
    }
    if (this.#busy) return;
    while (this.#later.length > 0 && this.#mayWait(this.#later[0]!)) {
      if (this.#later[0]!.options.seat && this.#any(({ options }) => options.seat)) return;
      this.#enter(this.#later.shift()!);
    }
  }

  #any(is: (running: Running) => unknown): boolean {
    for (const running of this.#running) if (is(running)) return true;
    return false;
  }

  #enter(request: Running): void {
    this.#running.add(request);
    this.counts.rows++;
    this.#resume(request, () => request.program.next());
  }

  /** Whether anything but the background runs. */
  get #busy(): boolean {
    return this.#any(({ options }) => !options.background);
  }

  /** Ends what decodes in the background; whether there was any. */
  #makeRoom(): boolean {
    const background = [...this.#running].find(({ options }) => options.background && options.seat);
    if (background) this.#fail(background, new ForewordError("deadline", "It made room for other requests."));
    return background !== undefined;
  }

  /** Whether it may decode beside those that run; what decodes in the background makes room. */
  #seats(request: Running): boolean {
    do {
      const rows = [...this.#running, request].flatMap(({ options: { seat }, decoded }) =>
        seat ? [{ length: seat.length + decoded, left: seat.tokens - decoded }] : [],
      );
      if (rows.length === 1) return true;
      const bytes = mostPositions(rows, this.#pool.capacity) * positionBytes(this.#shape);
      if (rows.length <= this.#limits.seats && bytes <= this.#limits.seatBytes) return true;
    } while (this.#makeRoom());
    return false;
  }

  /** Whether what waits for a run of its kind (long, in the background) leaves room in one. */
  #mayWait({ options: { background = false, long = false } }: Running): boolean {
    let tokens = 0;
    for (const { waiting, options } of this.#running)
      if ((options.background ?? false) === background && (options.long ?? false) === long)
        for (const work of waiting) tokens += workLength(work);
    return tokens < (long ? this.#limits.batchTokensWhileDecoding : this.#prefillTokens(background));
  }

  /** Few in the background too: who comes meanwhile waits for the step to end. */
  #prefillTokens(background: boolean): number {
    const few = background || this.#pool.rows > 0;
    return few ? this.#limits.batchTokensWhileDecoding : this.#limits.batchTokens;
  }

  async #decode(): Promise<void> {
    if (this.#pool.rows === 0) return;
    const requests: Running[] = [];
    const tokens: number[] = [];
    for (const request of this.#running) {
      if (!request.decode) continue;
      requests.push(request);
      tokens[request.decode.seat.row] = request.decode.token;
    }
    const rows = requests.map(request => request.decode!.seat.row);
    const withLogits = requests.some(request => request.decode!.logits);
    let next: NextToken[];
    try {
      next = await this.#batch.decode(this.#pool, tokens, withLogits);
      await Promise.all(requests.map(request => request.decode!.ready));
    } catch (error) {
      for (const request of requests) this.#fail(request, error);
      return;
    }
    this.counts.decodeTokens += tokens.length;
    for (const [index, request] of requests.entries()) {
      request.decode = null;
      request.decoded++;
      this.#resume(request, () => request.program.next({ prefilled: null, next: next[rows[index]!]! }));
    }
  }

  async #prefill(): Promise<void> {
    const chosen: { request: Running; work: PrefillWork }[] = [];
    const background = !this.#busy;
    const budget = new RunBudget(this.#shape, {
      tokens: this.#prefillTokens(background),
      bytes: this.#limits.runBytes,
    });
    for (const request of this.#running) {
      if ((request.options.background ?? false) !== background) continue;
      for (const work of request.waiting) if (budget.take(work)) chosen.push({ request, work });
      if (budget.spent) break;
    }
    if (chosen.length === 0) return;
    let results: PrefillResult[];
    try {
      results = await this.#batch.prefill(chosen.map(({ work }) => work));
    } catch (error) {
      for (const request of new Set(chosen.map(({ request }) => request))) this.#fail(request, error);
      return;
    }
    for (const [index, { request, work }] of chosen.entries()) {
      this.counts.prefillTokens += workLength(work);
      request.waiting.splice(request.waiting.indexOf(work), 1);
      request.results.set(work, results[index]!);
    }
    for (const request of new Set(chosen.map(({ request }) => request))) {
      // Who had a run goes behind those that wait for one.
      this.#running.delete(request);
      this.#running.add(request);
      if (request.waiting.length > 0) {
        // Logits are views into the run's outputs, which these results must outlive.
        for (const result of request.results.values())
          result.logits = result.logits.map(view => view.slice());
        continue;
      }
      const prefilled = request.asked.map(work => request.results.get(work)!);
      request.results = new Map();
      this.#resume(request, () => request.program.next({ prefilled, next: null }));
    }
  }

  #resume(request: Running, advance: () => IteratorResult<Work, unknown>): void {
    try {
      const { done, value } = advance();
      if (done) {
        this.#leave(request);
        request.resolve(value);
      } else if ("kind" in (value as Work)) {
        request.decode = value as Extract<Work, { kind: "decode" }>;
      } else {
        request.asked = value as readonly PrefillWork[];
        request.waiting = [...request.asked];
      }
    } catch (error) {
      this.#fail(request, error);
    }
  }

  #leave(request: Running): void {
    this.#running.delete(request);
    if (!request.options.background) this.#left = performance.now();
  }

  /** Ends a request; the program's own `finally` gives its seat back. */
  #fail(request: Running, error: unknown): void {
    this.#leave(request);
    request.program.return(undefined);
    request.reject(error);
  }
}

/**
 * Positions of all rows together when they are most: each takes as much room as the longest, or as there is already,
 * and is gone once it has added what it may.
 */
function mostPositions(rows: readonly { length: number; left: number }[], capacity: number): number {
  const at = (step: number) => {
    const longest = Math.max(capacity, ...rows.map(({ length, left }) => length + Math.min(left, step)));
    return longest * rows.filter(({ left }) => left >= step).length;
  };
  return Math.max(...rows.map(({ left }) => at(left)));
}

export function abandoned(options: Pick<SubmitOptions, "cancelled">): ForewordError {
  const detail = options.cancelled()
    ? "The caller went away."
    : "The deadline passed before the answer was ready. Allow more time (timeout_ms), or ask for less.";
  return new ForewordError("deadline", detail);
}

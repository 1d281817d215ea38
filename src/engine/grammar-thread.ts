/** One thread with a copy of XGrammar and the grammar of one schema, as the engine sees it. */
import type { Worker } from "node:worker_threads";
import { ForewordError } from "../errors.ts";
import { type Deferred, deferred } from "./deferred.ts";
import type { FromGrammar, GrammarThreadData, ToGrammar } from "./grammar-protocol.ts";
import { JsonConstraint } from "./json-constraint.ts";
import { startThread } from "./thread.ts";

/** A thread that owes an answer and says nothing for so long is ended: the engine's step waits for its masks. */
const COMPILE_MS = 120_000;
const MASK_MS = 30_000;

export class GrammarThread {
  readonly #worker: Worker;
  readonly #spoilt: () => void;
  readonly #exited: Promise<void>;
  readonly #rows = new Map<number, JsonConstraint>();
  #nextRow = 0;
  #compiling: Deferred<void> | null = null;
  /** Answers that it owes, those that it gave, and what ends the wait for the next. */
  #owed = 0;
  #heard = 0;
  #patience: NodeJS.Timeout | undefined;
  /** Why nothing new may be asked of it. */
  #broken: Error | null = null;

  /** `spoilt` is called once: nothing new may be asked of it; rows that are under way go on, unless it is gone. */
  constructor(workerData: GrammarThreadData, spoilt: () => void) {
    this.#spoilt = spoilt;
    this.#worker = startThread("grammar-worker", { workerData });
    this.#worker.on("message", (message: FromGrammar) => this.#hear(message));
    this.#worker.on("error", error => this.#die(lost(`failed (${error.message})`)));
    this.#exited = new Promise(resolve => {
      this.#worker.once("exit", code => {
        this.#die(lost(`ended (${code})`));
        resolve();
      });
    });
    // It keeps no process alive, but while somebody waits for its answer.
    this.#worker.unref();
  }

  get rows(): number {
    return this.#rows.size;
  }

  /** In place of the schema before, of which no row is left. Throws `validation` where XGrammar gives up on it. */
  compile(schema: string): Promise<void> {
    if (this.#broken) return Promise.reject(this.#broken);
    this.#compiling = deferred();
    this.#ask({ type: "compile", schema });
    return this.#compiling.promise;
  }

  /** A text of the schema's, once its first mask is there; `gone` is called when it is disposed of. */
  async open(gone: () => void): Promise<JsonConstraint> {
    if (this.#broken) throw this.#broken;
    const row = this.#nextRow++;
    const constraint = new JsonConstraint(
      row,
      message => this.#ask(message),
      () => {
        this.#rows.delete(row);
        gone();
      },
    );
    this.#rows.set(row, constraint);
    await constraint.settled();
    return constraint;
  }

  /** With all that is under way. */
  async end(why: Error = lost("was ended")): Promise<void> {
    this.#die(why);
    await this.#worker.terminate();
    await this.#exited;
  }

  #ask(message: ToGrammar): void {
    this.#worker.postMessage(message);
    const compiles = message.type === "compile";
    // Whatever the schema before still owes, what is compiled has all its time.
    if (this.#owed++ > 0 && !compiles) return;
    this.#worker.ref();
    clearTimeout(this.#patience);
    const limit = compiles ? COMPILE_MS : MASK_MS;
    this.#patience = setTimeout(() => this.#lose(limit), limit).unref();
  }

  /** Unless its answer lies there: this thread may have been busy itself. */
  #lose(limit: number): void {
    const heard = this.#heard;
    setImmediate(() => {
      if (this.#heard > heard) return;
      const how = `takes longer than ${limit / 1000} s`;
      void this.end(this.#compiling ? refused(`it ${how}`) : lost(how));
    });
  }

  #hear(message: FromGrammar): void {
    this.#heard++;
    if (--this.#owed > 0) this.#patience?.refresh();
    else {
      clearTimeout(this.#patience);
      this.#worker.unref();
    }
    if (message.type === "compiled") this.#compiled(null);
    else if (message.type === "refused") this.#compiled(refused(message.why));
    else if (message.type === "failed") {
      const error = lost(`failed (${message.why})`);
      this.#break(error);
      this.#rows.get(message.row)?.fail(error);
    } else if (message.type !== "disposed") this.#rows.get(message.row)?.hear(message);
  }

  #compiled(error: Error | null): void {
    const waiting = this.#compiling;
    this.#compiling = null;
    if (error) this.#break(error);
    if (error) waiting?.reject(error);
    else waiting?.resolve();
  }

  #break(error: Error): void {
    if (this.#broken) return;
    this.#broken = error;
    this.#spoilt();
  }

  #die(error: Error): void {
    clearTimeout(this.#patience);
    this.#compiled(error);
    for (const row of this.#rows.values()) row.fail(error);
  }
}

const lost = (how: string) =>
  new ForewordError(
    "internal",
    `The thread of json_schema's grammar ${how}, and this answer with it. Send the request again.`,
  );

const refused = (why: string) =>
  new ForewordError("validation", `json_schema cannot be compiled: ${why}. Correct or simplify it.`, {
    field: "json_schema",
  });

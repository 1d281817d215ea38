import { invalid } from "../errors.ts";
import type { Constraint } from "./constraint.ts";
import { type Deferred, deferred } from "./deferred.ts";
import type { FromGrammar, ToGrammar } from "./grammar-protocol.ts";

/** One text of JSON as the engine sees it: the grammar's thread works out its masks. */
export class JsonConstraint implements Constraint {
  readonly #row: number;
  readonly #send: (message: ToGrammar) => void;
  readonly #gone: () => void;
  /** Null while the thread works it out, and at the end. */
  #mask: Int32Array | null = null;
  #settled = deferred<void>();
  #closing: Deferred<number[]> | null = null;
  #failed: Error | null = null;
  #disposed = false;

  /** `send` reaches the thread; `gone` is called when the row is disposed of. */
  constructor(row: number, send: (message: ToGrammar) => void, gone: () => void) {
    this.#row = row;
    this.#send = send;
    this.#gone = gone;
    send({ type: "open", row });
  }

  /** Resolves when `mask` can answer, be it that the thread failed. */
  settled(): Promise<void> {
    return this.#settled.promise;
  }

  mask(logits: Float32Array): void {
    if (this.#failed) throw this.#failed;
    if (!this.#mask) throw new Error("the grammar's mask is not there yet");
    for (const [word, bits] of this.#mask.entries()) {
      if (bits === -1) continue;
      const end = Math.min(logits.length, (word + 1) * 32);
      if (bits === 0) logits.fill(-Infinity, word * 32, end);
      else
        for (let token = word * 32; token < end; token++)
          if (((bits >>> (token & 31)) & 1) === 0) logits[token] = -Infinity;
    }
  }

  accept(token: number): void {
    if (this.#failed) return;
    this.#mask = null;
    this.#settled = deferred();
    this.#send({ type: "accept", row: this.#row, token });
  }

  close(): Promise<number[]> {
    if (this.#failed) return Promise.reject(this.#failed);
    this.#closing = deferred();
    this.#send({ type: "close", row: this.#row });
    return this.#closing.promise;
  }

  dispose(): void {
    if (this.#disposed) return;
    this.#disposed = true;
    if (!this.#failed) this.#send({ type: "dispose", row: this.#row });
    this.#gone();
  }

  hear(message: Extract<FromGrammar, { type: "mask" | "closing" }>): void {
    if (message.type === "closing") {
      if (message.tokens) this.#closing?.resolve(message.tokens);
      else this.#closing?.reject(endless());
    } else {
      this.#mask = message.mask;
      this.#settled.resolve();
    }
  }

  /** Told when the next token is chosen. */
  fail(error: Error): void {
    this.#failed ??= error;
    this.#settled.resolve();
    this.#closing?.reject(error);
  }
}

/** Rather than half a text, which would pass for a whole one. */
const endless = () =>
  invalid(
    "json_schema",
    "max_tokens cut the text where it could not be brought to an end. Raise max_tokens, or let the schema require less where it leads back to itself.",
  );

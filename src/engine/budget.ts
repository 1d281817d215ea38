/** What one prefill run may take: its time is bounded by tokens, its memory by the keys, values and scores it holds. */
import type { KvBlock, KvShape } from "./kv.ts";
import { positionBytes, totalLength } from "./kv.ts";
import { type PrefillWork, workLength } from "./work.ts";

export interface RunLimits {
  tokens: number;
  /** For the rows' keys and values side by side, and as much again for attention scores. */
  bytes: number;
}

/** The blocks that are a row's past; those of prompts which add nothing are left out. */
export const blocksOf = ({ past }: Pick<PrefillWork, "past">): KvBlock[] =>
  past.filter(block => block.length > 0);

/** Whether two rows have the very same past. */
export function samePast(a: readonly KvBlock[], b: readonly KvBlock[]): boolean {
  return a.length === b.length && a.every((block, at) => block === b[at]);
}

export class RunBudget {
  readonly #shape: KvShape & { heads: number };
  readonly #limits: RunLimits;
  #rows = 0;
  #tokens = 0;
  #past = 0;
  #width = 0;
  /** The past of every row so far, while they have the same: it is there once, for all of them. */
  #shared: readonly KvBlock[] | null = null;

  constructor(shape: KvShape & { heads: number }, limits: RunLimits) {
    this.#shape = shape;
    this.#limits = limits;
  }

  get spent(): boolean {
    return this.#tokens >= this.#limits.tokens;
  }

  /** Adds a row if it fits; the first always does. */
  take(work: PrefillWork): boolean {
    const rows = this.#rows + 1;
    const tokens = this.#tokens + workLength(work);
    const past = Math.max(this.#past, totalLength(work.past));
    const width = Math.max(this.#width, workLength(work));
    const blocks = blocksOf(work);
    const shared = rows === 1 || (this.#shared && samePast(this.#shared, blocks)) ? blocks : null;
    const copied = shared === null ? rows * past * positionBytes(this.#shape) : 0;
    const scores = rows * this.#shape.heads * width * (past + width) * 4;
    const { tokens: tokenLimit, bytes } = this.#limits;
    if (rows > 1 && (tokens > tokenLimit || copied > bytes || scores > bytes)) return false;
    this.#rows = rows;
    this.#tokens = tokens;
    this.#past = past;
    this.#width = width;
    this.#shared = shared;
    return true;
  }
}

/** What one prefill run may take: its time is bounded by tokens, its memory by the keys, values and scores it holds. */
import type { KvBlock, KvShape } from "./kv.ts";
import { totalLength } from "./kv.ts";
import { type PrefillWork, workLength } from "./work.ts";

export interface RunLimits {
  tokens: number;
  /** Of the rows' keys and values side by side, and as much again of attention scores. */
  bytes: number;
}

/** The one block that is a row's whole past; undefined where it has several; null where it has none. */
export function soleBlock({ past }: PrefillWork): KvBlock | null | undefined {
  const blocks = past.filter(block => block.length > 0);
  return blocks.length > 1 ? undefined : (blocks[0] ?? null);
}

export class RunBudget {
  readonly #shape: KvShape & { heads: number };
  readonly #limits: RunLimits;
  #rows = 0;
  #tokens = 0;
  #past = 0;
  #width = 0;
  /** The past of every row so far, while they have the same: it is read where it lies, by all of them. */
  #shared: KvBlock | null | undefined;

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
    const sole = soleBlock(work);
    const shared = rows === 1 || sole === this.#shared ? sole : undefined;
    const { layers, kvHeads, headDim, heads } = this.#shape;
    const copied = shared === undefined ? rows * past * layers * kvHeads * headDim * 2 * 4 : 0;
    const scores = rows * heads * width * (past + width) * 4;
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

/**
 * Requests that begin alike (few-shot examples, a system text, a document that is asked about twice) share the keys and
 * values of their beginnings, in whole blocks behind the prompt's prefix. A block is kept from the second request on
 * that has it, so that inputs which differ cost nothing; and only as many are in use at once as the cache has room for,
 * since requests hold theirs before they have a seat.
 */
import { createHash } from "node:crypto";
import { type Segment, segmentLength } from "../backbone/feeds.ts";
import { feedBlocks } from "./feed.ts";
import { blockBytes, type KvBlock, type KvShape, positionBytes } from "./kv.ts";
import type { Acquired, PrefixCache, Wanted } from "./prefix-cache.ts";
import type { Program } from "./scheduler.ts";

export const BLOCK_TOKENS = 128;
/** Beginnings that were met are remembered up to this many. */
const REMEMBERED = 4096;

export interface KeptBlock {
  block: KvBlock;
  bytes: number;
}

export interface Beginning {
  /** Behind the prompt's prefix, in order. */
  blocks: readonly KvBlock[];
  /** What is left to feed: at least one position. */
  rest: readonly Segment[];
  /** How many positions of the blocks were there already. */
  cached: number;
  release: () => void;
}

/** Runs a program that feeds so many tokens, and ends it once they are not wanted any more. */
type Run = (program: Program<KvBlock[]>, tokens: number, wanted: Wanted) => Promise<KvBlock[]>;

export class LeadingText {
  readonly #cache: PrefixCache;
  readonly #run: Run;
  /** Bytes of a block. */
  readonly #bytes: number;
  readonly #met = new Set<string>();
  /** Since when a prompt's beginnings count, as a number of its own. */
  readonly #since = new Map<string, number>();
  #sinces = 0;

  constructor(cache: PrefixCache, shape: KvShape, run: Run) {
    this.#cache = cache;
    this.#run = run;
    this.#bytes = BLOCK_TOKENS * positionBytes(shape);
  }

  /**
   * `prefix` is all that stands before the row, of the prompt with this digest; blocks that are worth keeping and missing
   * are made as long as somebody waits for one of them. What there is no room for is left to the row itself.
   */
  async take(
    prompt: string,
    prefix: readonly KvBlock[],
    row: readonly Segment[],
    wanted: Wanted,
  ): Promise<Beginning> {
    const chain = this.#affordable(this.#worth(chainOf(`${prompt}/${this.#sinceOf(prompt)}`, row)));
    if (chain.length === 0) return { blocks: [], rest: row, cached: 0, release: () => {} };
    // All are asked for before anything is awaited, so that requests which come together make them once.
    const pending: Promise<Acquired<KeptBlock>>[] = [];
    const waited: Wanted[] = [];
    const make = async (from: number): Promise<KvBlock[]> => {
      const before = await Promise.all(pending.slice(0, from));
      const ids = chain.slice(from).map(block => block.ids);
      const program = feedBlocks([...prefix, ...before.map(({ value }) => value.block)], ids);
      return this.#run(program, ids.length * BLOCK_TOKENS, () => waited.some(still => still()));
    };
    let making: { from: number; blocks: Promise<KvBlock[]> } | null = null;
    for (const [index, { key }] of chain.entries()) {
      const fill = async (still: Wanted) => {
        waited.push(still);
        making ??= { from: index, blocks: make(index) };
        const block = (await making.blocks)[index - making.from]!;
        return { block, bytes: blockBytes(block) };
      };
      pending.push(this.#cache.acquire(key, fill, wanted, this.#bytes));
    }
    const settled = await Promise.allSettled(pending);
    const acquired = settled.flatMap(each => (each.status === "fulfilled" ? [each.value] : []));
    const release = () => {
      for (const each of acquired) each.release();
    };
    const failed = settled.find(each => each.status === "rejected");
    if (failed) {
      release();
      throw failed.reason;
    }
    return {
      blocks: acquired.map(({ value }) => value.block),
      rest: without(row, chain.length * BLOCK_TOKENS),
      cached: acquired.filter(({ hit }) => hit).length * BLOCK_TOKENS,
      release,
    };
  }

  /** No beginning of that prompt is known any more. */
  forget(prompt: string): void {
    this.#since.delete(prompt);
  }

  #sinceOf(prompt: string): number {
    const since = this.#since.get(prompt) ?? ++this.#sinces;
    this.#since.set(prompt, since);
    return since;
  }

  /** The first blocks that the cache can hold beside all that is in use; those in use already cost nothing. */
  #affordable<Block extends { key: string }>(chain: readonly Block[]): Block[] {
    let left = this.#cache.limit - this.#cache.pinned;
    const beyond = chain.findIndex(({ key }) => {
      if (!this.#cache.isPinned(key)) left -= this.#bytes;
      return left < 0;
    });
    return beyond < 0 ? [...chain] : chain.slice(0, beyond);
  }

  /** The blocks that some request had before; all become known. */
  #worth<Block extends { key: string }>(chain: readonly Block[]): Block[] {
    const fresh = chain.findIndex(({ key }) => !this.#met.has(key));
    for (const { key } of chain) {
      this.#met.delete(key);
      this.#met.add(key);
    }
    for (const key of this.#met) {
      if (this.#met.size <= REMEMBERED) break;
      this.#met.delete(key);
    }
    return fresh < 0 ? [...chain] : chain.slice(0, fresh);
  }
}

/** Whole blocks of the text that a row begins with, each keyed by all that stands before it; one token stays out. */
function chainOf(prompt: string, row: readonly Segment[]): { key: string; ids: readonly number[] }[] {
  const end = row.findIndex(segment => !("ids" in segment));
  const ids = row
    .slice(0, end < 0 ? row.length : end)
    .flatMap(segment => ("ids" in segment ? segment.ids : []));
  const chain: { key: string; ids: readonly number[] }[] = [];
  let key = prompt;
  for (let from = 0; from + BLOCK_TOKENS < ids.length; from += BLOCK_TOKENS) {
    const block = ids.slice(from, from + BLOCK_TOKENS);
    key = createHash("sha256").update(key).update(Uint32Array.from(block)).digest("hex");
    chain.push({ key, ids: block });
  }
  return chain;
}

/** The row without its first `count` positions, which are text. */
function without(row: readonly Segment[], count: number): Segment[] {
  let left = count;
  return row.flatMap(segment => {
    const cut = Math.min(left, segmentLength(segment));
    left -= cut;
    if (cut === 0) return [segment];
    return "ids" in segment && cut < segment.ids.length ? [{ ids: segment.ids.slice(cut) }] : [];
  });
}

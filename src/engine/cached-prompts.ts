/** Prompts made ready: read, checked, and their keys and values computed once for all who ask. */
import { segmentsLength } from "../backbone/feeds.ts";
import type { BackboneConfig } from "../backbone/source.ts";
import type { Tokenizer } from "../backbone/tokenizer.ts";
import type { CompiledBackbone } from "../compile/backbone.ts";
import type { PromptContent, PromptSource } from "./engine.ts";
import { firstPositions, joinBlocks, type KvBlock, totalLength } from "./kv.ts";
import {
  beforeText,
  compileLayer,
  type PreparedLayer,
  type PreparedPrompt,
  prefixLength,
  preparePrompt,
  type ReadyLayer,
  type ReadyPrefix,
  readyLayer,
} from "./prefix.ts";
import type { Acquired, PrefixCache } from "./prefix-cache.ts";
import type { Program } from "./scheduler.ts";

export interface CachedPromptsOptions {
  config: BackboneConfig;
  tokenizer: Tokenizer;
  compiled: Pick<CompiledBackbone, "fingerprint" | "valueScales">;
  prompts: PromptSource;
  /** Tokens of a run that compiles a prefix. */
  chunk?: number | undefined;
}

type Run = (program: Program<ReadyLayer>) => Promise<ReadyLayer>;

/**
 * Runs a prompt's own text behind `past` together with the first row that asks for it, and returns the keys and values
 * of both; null where they are too long for that to gain anything.
 */
export type WithRow = (
  prompt: PreparedPrompt,
  past: readonly KvBlock[],
  found: number,
) => Promise<KvBlock | null>;

export class CachedPrompts {
  readonly #options: CachedPromptsOptions;
  readonly #cache: PrefixCache;

  constructor(options: CachedPromptsOptions, cache: PrefixCache) {
    this.#options = options;
    this.#cache = cache;
  }

  prepare(content: PromptContent): PreparedPrompt {
    const { tokenizer, config, compiled } = this.#options;
    return preparePrompt(content, tokenizer, config, compiled);
  }

  /** A prompt, and the keys and values that its rows attend to: one block for each prompt of its stack. */
  async acquire(digest: string, run: Run, withRow: WithRow) {
    const top = await this.#cache.acquire(digest, () => this.#fill(digest, run, withRow));
    const { prompt, block } = top.value;
    const bases = await this.#bases(prompt, run).catch(error => {
      top.release();
      throw error;
    });
    return {
      prompt,
      past: [...blocksOf(bases), block],
      cached: top.hit ? prefixLength(prompt) : top.value.found,
      release: () => releaseAll([...bases, top]),
    };
  }

  /** A prompt's keys and values with those of all that it stands on; what is its own is not kept. */
  async compile(content: PromptContent, run: Run): Promise<KvBlock> {
    const prompt = this.prepare(content);
    const bases = await this.#bases(prompt, run);
    try {
      const past = blocksOf(bases);
      const { block } = await run(this.#layer(prompt, past));
      return joinBlocks([...past, block], this.#options.config);
    } finally {
      releaseAll(bases);
    }
  }

  async #fill(digest: string, run: Run, withRow: WithRow): Promise<ReadyPrefix> {
    const { config, prompts } = this.#options;
    const prompt = this.prepare(await prompts.load(digest));
    const bases = await this.#bases(prompt, run);
    try {
      const past = blocksOf(bases);
      const shared = blocksOf(bases.filter(({ hit }) => hit));
      // A trained prefix is read, never computed: it is cached from the first request on.
      const found = totalLength(shared) + (prompt.trained?.length ?? 0);
      const length = segmentsLength(prompt.segments);
      // A row that fails (its input is too long, its caller leaves) fails alone: others may wait for the prompt.
      const both =
        length > 0 ? await withRow(prompt, beforeText(prompt, past), found).catch(() => null) : null;
      const { block, bytes } = both
        ? readyLayer([...beforeText(prompt, []), firstPositions(both, length, config)], config)
        : await run(this.#layer(prompt, past));
      return { prompt, block, bytes: bytes + (prompt.soft?.byteLength ?? 0), found };
    } finally {
      releaseAll(bases);
    }
  }

  /** What a prompt stands on, the lowest first: kept once for all that stand on it. */
  async #bases({ bases }: PreparedPrompt, run: Run): Promise<Acquired<ReadyLayer>[]> {
    const acquired: Acquired<ReadyLayer>[] = [];
    try {
      for (const base of bases) {
        const make = () => run(this.#layer(base, blocksOf(acquired)));
        acquired.push(await this.#cache.acquire(base.key, make));
      }
      return acquired;
    } catch (error) {
      releaseAll(acquired);
      throw error;
    }
  }

  #layer(layer: PreparedLayer, past: readonly KvBlock[]): Program<ReadyLayer> {
    const { config, chunk } = this.#options;
    return compileLayer(layer, past, config, chunk);
  }
}

const blocksOf = (acquired: readonly Acquired<ReadyLayer>[]): KvBlock[] =>
  acquired.map(({ value }) => value.block);

function releaseAll(acquired: readonly Acquired<ReadyLayer>[]): void {
  for (const { release } of acquired) release();
}

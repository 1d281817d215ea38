/** The engine's inside, in its worker: requests become programs, prompts become KV prefixes, the scheduler runs both. */

import { type Segment, segmentsLength } from "../backbone/feeds.ts";
import type { BackboneConfig } from "../backbone/source.ts";
import type { Tokenizer } from "../backbone/tokenizer.ts";
import type { CompiledBackbone } from "../compile/backbone.ts";
import { ForewordError } from "../errors.ts";
import { promptDigest } from "../prompt/file.ts";
import { layoutRow } from "../prompt/layout.ts";
import { promptKind } from "../prompt/pieces.ts";
import { buildTrie } from "../prompt/trie.ts";
import type { Session } from "../runtime/runtime.ts";
import { Batch } from "./batch.ts";
import { classify } from "./classify.ts";
import { choiceConstraint } from "./constraint.ts";
import type {
  AnswerTo,
  ClassifyAnswer,
  ClassifyRequest,
  EngineRequest,
  EngineStatistics,
  GenerateAnswer,
  GenerateRequest,
  LabelVerbalizers,
  PromptContent,
  PromptInspection,
  PromptSource,
} from "./engine.ts";
import { fill } from "./feed.ts";
import { fitRow } from "./fit.ts";
import { closed, generate } from "./generate.ts";
import { Grammars } from "./grammars.ts";
import { joinBlocks, type KvBlock, totalLength } from "./kv.ts";
import { type Beginning, LeadingText } from "./leading.ts";
import {
  compileLayer,
  type PreparedBase,
  type PreparedLayer,
  type PreparedPrompt,
  prefixLength,
  preparePrompt,
  type ReadyLayer,
  type ReadyPrefix,
  toSegments,
} from "./prefix.ts";
import { type Acquired, PrefixCache } from "./prefix-cache.ts";
import { randomFrom } from "./sampler.ts";
import { type Program, Scheduler, type SchedulerLimits, type SubmitOptions } from "./scheduler.ts";

export interface CoreOptions {
  session: Session;
  config: BackboneConfig;
  tokenizer: Tokenizer;
  compiled: Pick<CompiledBackbone, "fingerprint" | "valueScales">;
  prompts: PromptSource;
  limits: SchedulerLimits;
  cacheBytes: number;
  /** Tokens of a run that compiles a prefix. */
  chunk?: number | undefined;
}

export interface CoreInferOptions {
  deadline: number;
  cancelled: () => boolean;
  /** Of the answer alone: keys and values that others may wait for come in their turn. */
  background?: boolean;
  onToken: (token: { index: number; text: string; logprob?: number }) => void;
}

interface Prepared {
  /** What the row attends to before its own tokens. */
  past: readonly KvBlock[];
  /** What is fed. */
  segments: readonly Segment[];
  /** All token ids before the answer. */
  context: readonly number[];
  inputTokens: number;
  cachedTokens: number;
}

/** For callers who wait as long as it takes, and hear of nothing on the way. */
export const patient: CoreInferOptions = {
  deadline: Number.POSITIVE_INFINITY,
  cancelled: () => false,
  onToken: () => {},
};

export class Core {
  readonly #options: CoreOptions;
  readonly #scheduler: Scheduler;
  readonly #prefixes: PrefixCache;
  readonly #leading: LeadingText;
  readonly #grammars: Grammars;

  constructor(options: CoreOptions) {
    this.#options = options;
    this.#scheduler = new Scheduler(
      new Batch(options.session, options.config),
      options.config,
      options.limits,
    );
    this.#prefixes = new PrefixCache(options.cacheBytes);
    this.#leading = new LeadingText(this.#prefixes);
    this.#grammars = new Grammars(options.tokenizer, options.config.vocabSize);
  }

  inspect(content: PromptContent): PromptInspection {
    const prompt = this.#prepare(content);
    const length = prefixLength(prompt);
    const limit = this.#options.config.maxPositions - 2;
    if (length > limit) {
      const detail = `The prompt alone has ${length} tokens; the backbone's context leaves ${limit} for it, one input and one answer token. Shorten it by ${length - limit}.`;
      throw new ForewordError("input_too_long", detail, { tokens: length, limit, over: length - limit });
    }
    const kind = promptKind({ softLengths: prompt.softLengths, prefix: prompt.trained?.length ?? 0 });
    return {
      digest: promptDigest(kind, content.template, content.parameters),
      template: prompt.template,
      length,
    };
  }

  /** Token ids of every verbalizer; building the trie refuses what cannot be told apart. */
  checkLabels(labels: readonly LabelVerbalizers[]): number[][][] {
    const sequences = this.#sequences(labels);
    buildTrie(sequences);
    return sequences.map(label => label.sequences);
  }

  async infer<Request extends EngineRequest>(
    request: Request,
    options: CoreInferOptions,
  ): Promise<AnswerTo<Request>> {
    const acquired = await this.#acquire(request.prompt, options);
    let beginning: Beginning | null = null;
    try {
      const { tokenizer, config } = this.#options;
      const { prompt, past } = acquired;
      const length = totalLength(past);
      const laidOut = layoutRow(prompt.template, tokenizer, request.fields, prompt.softLengths);
      const room = config.maxPositions - length - this.#reserve(request);
      const row = toSegments(fitRow(laidOut, room, request.truncate), prompt.soft, config.hiddenSize);
      beginning = await this.#leading.take(request.prompt, past, row, program => this.#run(program, options));
      const prepared: Prepared = {
        past: [...past, ...beginning.blocks],
        segments: beginning.rest,
        context: [...prompt.segments, ...row].flatMap(segment => ("ids" in segment ? segment.ids : [])),
        inputTokens: length + segmentsLength(row),
        cachedTokens: acquired.cached + beginning.cached,
      };
      const answer =
        request.kind === "classify"
          ? await this.#classify(request, prepared, options)
          : await this.#generate(request, prepared, options);
      return answer as AnswerTo<Request>;
    } finally {
      beginning?.release();
      acquired.release();
    }
  }

  /** Keys and values of a text's own forward pass behind `past`; BOS first where nothing is and the tokenizer adds one. */
  async read(ids: readonly number[], past: KvBlock | null = null): Promise<KvBlock> {
    const { config, tokenizer } = this.#options;
    const bos = tokenizer.bosId === null || past !== null ? [] : [tokenizer.bosId];
    const before = past === null ? [] : [past];
    const program = fill(before, [{ ids: [...bos, ...ids] }]);
    const blocks = await this.#scheduler.submit(program, { seat: 0, ...patient });
    return joinBlocks(blocks.slice(before.length), config);
  }

  /** The KV prefix of a prompt, compiled, with those of all that it stands on. */
  async prefix(content: PromptContent): Promise<KvBlock> {
    const { config } = this.#options;
    const prompt = this.#prepare(content);
    const bases = await this.#basesOf(prompt, patient);
    try {
      const past = bases.map(({ value }) => value.block);
      const { block } = await this.#scheduler.submit(this.#layer(prompt, past), { seat: 0, ...patient });
      return joinBlocks([...past, block], config);
    } finally {
      for (const { release } of bases) release();
    }
  }

  forget(digest: string): void {
    this.#prefixes.forget(digest);
  }

  statistics(): EngineStatistics {
    const { hits, misses, bytes, size } = this.#prefixes;
    const { queued, running, counts } = this.#scheduler;
    return {
      ...counts,
      queued,
      running,
      prefixHits: hits,
      prefixMisses: misses,
      prefixBytes: bytes,
      prefixEntries: size,
    };
  }

  idle(): Promise<void> {
    return this.#scheduler.idle();
  }

  async #classify(
    request: ClassifyRequest,
    prepared: Prepared,
    options: CoreInferOptions,
  ): Promise<ClassifyAnswer> {
    const { tokenizer } = this.#options;
    const program = classify({
      past: prepared.past,
      segments: prepared.segments,
      trie: buildTrie(this.#sequences(request.labels)),
      eos: tokenizer.eosIds[0]!,
      mode: request.scores,
      settle: request.settle ?? [],
      targets: this.#targets(request.targets),
    });
    const { scores, targets } = await this.#scheduler.submit(program, { seat: 0, ...options });
    return { kind: "classify", scores, ...(request.targets && { targets }), usage: usage(prepared, 0) };
  }

  async #generate(
    request: GenerateRequest,
    prepared: Prepared,
    options: CoreInferOptions,
  ): Promise<GenerateAnswer> {
    const { tokenizer, config } = this.#options;
    const maxTokens = Math.min(request.maxTokens, config.maxPositions - prepared.inputTokens);
    const constraint = await this.#constraint(request);
    try {
      const row = {
        past: prepared.past,
        segments: prepared.segments,
        targets: this.#targets(request.targets),
        sampling: request,
        random: randomFrom(request.seed ?? Math.floor(Math.random() * 2 ** 32)),
        context: prepared.context,
        maxTokens,
        stop: request.stop,
        eos: new Set(tokenizer.eosIds),
        logprobs: request.logprobs,
        constraint,
        decoder: tokenizer.stream(),
        show: (token: number) => tokenizer.decode([token], { skipSpecial: false }),
        onToken: options.onToken,
      };
      const seat = prepared.inputTokens + maxTokens;
      const written = await this.#scheduler.submit(generate(row, this.#scheduler), { seat, ...options });
      const ending = await closed(written, row);
      const { text, finishReason, tokens, logprobs, targets } = written;
      return {
        kind: "generate",
        text: text + ending.text,
        finishReason,
        ...(request.logprobs !== null && { logprobs }),
        ...(request.targets && { targets }),
        usage: usage(prepared, tokens + ending.tokens),
      };
    } finally {
      constraint?.dispose();
    }
  }

  async #constraint({ jsonSchema, choices }: GenerateRequest) {
    const { tokenizer } = this.#options;
    if (jsonSchema) return this.#grammars.json(jsonSchema);
    return choices
      ? choiceConstraint(
          choices.map(choice => tokenizer.encode(choice)),
          tokenizer.eosIds[0]!,
        )
      : null;
  }

  /** A prompt, and the keys and values that its rows attend to: one block for each prompt of its stack. */
  async #acquire(digest: string, options: CoreInferOptions) {
    const top = await this.#prefixes.acquire(digest, () => this.#fill(digest, options));
    const { prompt, block, length, found } = top.value;
    const read = async () => this.#prepare(await this.#options.prompts.load(digest)).bases;
    const bases = await this.#bases(top.value.bases, read, options).catch(error => {
      top.release();
      throw error;
    });
    return {
      prompt,
      past: [...bases.map(({ value }) => value.block), block],
      cached: top.hit ? length : found,
      release: () => {
        for (const { release } of [...bases, top]) release();
      },
    };
  }

  async #fill(digest: string, options: CoreInferOptions): Promise<ReadyPrefix> {
    const prepared = this.#prepare(await this.#options.prompts.load(digest));
    const bases = await this.#basesOf(prepared, options);
    try {
      const past = bases.map(({ value }) => value.block);
      const { block, bytes } = await this.#run(this.#layer(prepared, past), options);
      const shared = bases.filter(({ hit }) => hit).map(({ value }) => value.block);
      const { trained, bases: below, ...prompt } = prepared;
      return {
        prompt,
        bases: below.map(({ key }) => key),
        length: prefixLength(prepared),
        block,
        bytes: bytes + (prompt.soft?.byteLength ?? 0),
        // A trained prefix is read, never computed: it is cached from the first request on.
        found: totalLength(shared) + (trained?.length ?? 0),
      };
    } finally {
      for (const { release } of bases) release();
    }
  }

  #basesOf({ bases }: PreparedPrompt, options: CoreInferOptions): Promise<Acquired<ReadyLayer>[]> {
    const keys = bases.map(({ key }) => key);
    return this.#bases(keys, async () => bases, options);
  }

  /** What a prompt stands on, the lowest first: kept once for all that stand on it, and read where one is missing. */
  async #bases(
    keys: readonly string[],
    read: () => Promise<readonly PreparedBase[]>,
    options: CoreInferOptions,
  ): Promise<Acquired<ReadyLayer>[]> {
    const acquired: Acquired<ReadyLayer>[] = [];
    try {
      for (const [at, key] of keys.entries()) {
        const past = acquired.map(({ value }) => value.block);
        const make = async () => this.#run(this.#layer((await read())[at]!, past), options);
        acquired.push(await this.#prefixes.acquire(key, make));
      }
      return acquired;
    } catch (error) {
      for (const { release } of acquired) release();
      throw error;
    }
  }

  #layer(layer: PreparedLayer, past: readonly KvBlock[]): Program<ReadyLayer> {
    const { config, chunk } = this.#options;
    return compileLayer(layer, past, config, chunk);
  }

  #run<Value>(program: Program<Value>, options: CoreInferOptions): Promise<Value> {
    return this.#scheduler.submit(program, forOthersToo(options));
  }

  #prepare(content: PromptContent) {
    const { tokenizer, config, compiled } = this.#options;
    return preparePrompt(content, tokenizer, config, compiled);
  }

  #sequences(labels: readonly LabelVerbalizers[]) {
    return labels.map(({ label, verbalizers }) => ({
      label,
      sequences: verbalizers.map(text => this.#options.tokenizer.encode(text)),
    }));
  }

  #targets(texts: readonly string[] = []) {
    return { texts, ids: texts.map(text => this.#options.tokenizer.encode(text)) };
  }

  /** Positions that the answer takes. */
  #reserve(request: EngineRequest): number {
    const targets = this.#targets(request.targets).ids.map(ids => ids.length);
    if (request.kind === "generate") return Math.max(1, ...targets);
    return Math.max(
      ...this.#sequences(request.labels).flatMap(label => label.sequences.map(sequence => sequence.length)),
      ...targets,
    );
  }
}

/** Others may wait for the same keys and values: the caller that happened to come first does not cancel them by leaving. */
const forOthersToo = ({ deadline }: CoreInferOptions): SubmitOptions => ({
  seat: 0,
  deadline: Math.max(deadline, Date.now() + 60_000),
  cancelled: () => false,
});

const usage = ({ inputTokens, cachedTokens }: Prepared, outputTokens: number) => ({
  input_tokens: inputTokens,
  cached_tokens: cachedTokens,
  output_tokens: outputTokens,
});

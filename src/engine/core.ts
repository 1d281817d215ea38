/** The engine's inside, in its worker: requests become programs, prompts become KV prefixes, the scheduler runs both. */

import { type Segment, segmentsLength } from "../backbone/feeds.ts";
import type { BackboneConfig } from "../backbone/source.ts";
import type { Tokenizer } from "../backbone/tokenizer.ts";
import type { CompiledBackbone } from "../compile/backbone.ts";
import { ForewordError } from "../errors.ts";
import { promptDigest } from "../prompt/file.ts";
import { layoutBehind, layoutRow, positions } from "../prompt/layout.ts";
import { promptKind } from "../prompt/pieces.ts";
import { compileTemplate, fieldsOf, wordsOf } from "../prompt/template.ts";
import type { VerbalizedLabel } from "../prompt/verbalizer.ts";
import type { Session } from "../runtime/runtime.ts";
import { Batch } from "./batch.ts";
import { classify } from "./classify.ts";
import { choiceConstraint, choiceText } from "./constraint.ts";
import type {
  AnswerTo,
  ClassifyAnswer,
  ClassifyRequest,
  EngineRequest,
  EngineStatistics,
  GenerateAnswer,
  GenerateRequest,
  PromptContent,
  PromptInspection,
  PromptSource,
} from "./engine.ts";
import { branchChunk, branchRoom, fill, isLong } from "./feed.ts";
import { boundFields, fitRow, isFixed, requireShort } from "./fit.ts";
import { closed, generate } from "./generate.ts";
import { Grammars } from "./grammars.ts";
import { inTime, waits } from "./in-time.ts";
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
import { type Acquired, always, PrefixCache, type Wanted } from "./prefix-cache.ts";
import { RequestTexts } from "./request-texts.ts";
import { randomFrom } from "./sampler.ts";
import { type Program, Scheduler, type SchedulerLimits, type SubmitOptions } from "./scheduler.ts";
import { Targets } from "./targets.ts";

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
  /** Holds for the answer alone: keys and values that others may wait for are computed in their turn. */
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
  readonly #texts: RequestTexts;
  /** Rows whose prompt was there, and those that had to wait for it. */
  #hits = 0;
  #misses = 0;

  constructor(options: CoreOptions) {
    this.#options = options;
    this.#scheduler = new Scheduler(
      new Batch(options.session, options.config),
      options.config,
      options.limits,
    );
    this.#prefixes = new PrefixCache(options.cacheBytes);
    this.#leading = new LeadingText(this.#prefixes, options.config, (...work) => this.#run(...work));
    this.#grammars = new Grammars(options.tokenizer, options.config.vocabSize);
    this.#texts = new RequestTexts(options.tokenizer, options.config.maxPositions);
  }

  /** The most characters that a request's choices, its targets, or a task's verbalizers may have together. */
  get listedCharacters(): number {
    return this.#texts.listedCharacters;
  }

  inspect(content: PromptContent): PromptInspection {
    const { tokenizer, config } = this.#options;
    requireShort(
      wordsOf(compileTemplate(content.template)),
      "template",
      config.maxPositions,
      this.#texts.encode,
    );
    const prompt = this.#prepare(content);
    const length = prefixLength(prompt);
    const tokens = length + positions(layoutBehind(prompt.template, tokenizer, prompt.softLengths));
    // Each field takes a token at least wherever it stands, and so does the answer.
    const limit = Math.max(0, config.maxPositions - fieldsOf(prompt.template).length - 1);
    if (tokens > limit) {
      const detail = `The prompt alone has ${tokens} tokens; the backbone's context leaves ${limit} for it, one input and one answer token. Shorten it by ${tokens - limit}.`;
      throw new ForewordError("input_too_long", detail, { tokens, limit, over: tokens - limit });
    }
    const kind = promptKind({ softLengths: prompt.softLengths, prefix: prompt.trained?.length ?? 0 });
    return {
      digest: promptDigest(kind, content.template, content.parameters),
      template: prompt.template,
      length,
      softLengths: [...prompt.bases, prompt].map(layer => layer.softLengths),
    };
  }

  /** Token ids of every verbalizer. Refuses too many, and those that cannot be told apart. */
  checkLabels(labels: readonly VerbalizedLabel[]): number[][][] {
    return this.#texts.labels(labels).sequences.map(label => label.sequences);
  }

  async infer<Request extends EngineRequest>(
    request: Request,
    options: CoreInferOptions,
  ): Promise<AnswerTo<Request>> {
    const wanted = waits(options);
    const acquired = await inTime(this.#acquire(request.prompt, wanted), options, late => late.release());
    let beginning: Beginning | null = null;
    try {
      const { tokenizer, config } = this.#options;
      const { prompt, past } = acquired;
      const length = totalLength(past);
      const names = fieldsOf(prompt.template).map(({ name }) => name);
      const fields = boundFields(
        request.fields,
        names,
        config.maxPositions,
        this.#texts.encode,
        request.truncate,
      );
      const laidOut = layoutRow(prompt.template, tokenizer, fields, prompt.softLengths);
      const left = config.maxPositions - length;
      const room = left - this.#reserve(request, left - positions(laidOut.filter(isFixed)));
      const row = toSegments(fitRow(laidOut, room, request.truncate), prompt.soft, config.hiddenSize);
      const taking = this.#leading.take(request.prompt, past, row, wanted);
      beginning = await inTime(taking, options, late => late.release());
      const prepared: Prepared = {
        past: [...past, ...beginning.blocks],
        segments: beginning.rest,
        context: [...prompt.words, ...row.flatMap(segment => ("ids" in segment ? segment.ids : []))],
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

  /** Keys and values of a text's own forward pass behind `past`; without a past, BOS comes first if the tokenizer adds it. */
  async read(ids: readonly number[], past: KvBlock | null = null): Promise<KvBlock> {
    const { config, tokenizer } = this.#options;
    const bos = tokenizer.bosId === null || past !== null ? [] : [tokenizer.bosId];
    const before = past === null ? [] : [past];
    const program = fill(before, [{ ids: [...bos, ...ids] }]);
    const blocks = await this.#run(program, ids.length);
    return joinBlocks(blocks.slice(before.length), config);
  }

  /** The KV prefix of a prompt, compiled, with those of all that it stands on. */
  async prefix(content: PromptContent): Promise<KvBlock> {
    const { config } = this.#options;
    const prompt = this.#prepare(content);
    const bases = await this.#basesOf(prompt, always);
    try {
      const past = bases.map(({ value }) => value.block);
      const { block } = await this.#layer(prompt, past, always);
      return joinBlocks([...past, block], config);
    } finally {
      for (const { release } of bases) release();
    }
  }

  /** Drops a prompt's KV prefix, which a caller of many knows not to need again. */
  forget(digest: string): void {
    this.#prefixes.forget(digest);
    this.forgetInputs(digest);
  }

  /** What the prompt answers from here on is the same to the bit, whatever it was asked before. */
  forgetInputs(digest: string): void {
    this.#leading.forget(digest);
  }

  statistics(): EngineStatistics {
    const { bytes, size } = this.#prefixes;
    const { queued, running, counts } = this.#scheduler;
    return {
      ...counts,
      queued,
      running,
      prefixHits: this.#hits,
      prefixMisses: this.#misses,
      prefixBytes: bytes,
      prefixEntries: size,
    };
  }

  /** Waits for what is running; what waits for its schema to compile ends with `draining`. */
  async close(): Promise<void> {
    this.#grammars.stop();
    await this.#scheduler.idle();
    await this.#grammars.close();
  }

  async #classify(
    request: ClassifyRequest,
    prepared: Prepared,
    options: CoreInferOptions,
  ): Promise<ClassifyAnswer> {
    const { tokenizer, config } = this.#options;
    const program = classify({
      past: prepared.past,
      segments: prepared.segments,
      trie: this.#texts.labels(request.labels).trie,
      eos: tokenizer.eosIds[0]!,
      mode: request.scores,
      settle: request.settle ?? [],
      chunk: branchChunk(config.maxPositions),
      ...this.#targets(request, prepared),
    });
    const { scores, targets } = await this.#submit(program, null, prepared, options);
    return { kind: "classify", scores, ...(request.targets && { targets }), usage: usage(prepared, 0) };
  }

  async #generate(
    request: GenerateRequest,
    prepared: Prepared,
    options: CoreInferOptions,
  ): Promise<GenerateAnswer> {
    const { tokenizer, config } = this.#options;
    // A choice is whole, and ends with EOS.
    const wanted = Math.max(request.maxTokens, this.#longestChoice(request) + 1);
    const maxTokens = Math.min(wanted, config.maxPositions - prepared.inputTokens);
    const constraint = await inTime(this.#constraint(request, options), options, each => each?.dispose());
    try {
      const row = {
        past: prepared.past,
        segments: prepared.segments,
        ...this.#targets(request, prepared),
        sampling: request,
        random: randomFrom(request.seed ?? Math.floor(Math.random() * 2 ** 32)),
        context: prepared.context,
        maxTokens,
        stop: request.stop,
        eos: new Set(tokenizer.eosIds),
        logprobs: request.logprobs,
        constraint,
        decoder: this.#decoder(request),
        show: (token: number) => tokenizer.decode([token], { skipSpecial: false }),
        onToken: options.onToken,
      };
      const seat = { length: prepared.inputTokens, tokens: maxTokens };
      const written = await this.#submit(generate(row, this.#scheduler), seat, prepared, options);
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

  #submit<Answer>(
    program: Program<Answer>,
    seat: SubmitOptions["seat"],
    { segments }: Prepared,
    options: CoreInferOptions,
  ): Promise<Answer> {
    return this.#scheduler.submit(program, { seat, long: isLong(segmentsLength(segments)), ...options });
  }

  async #constraint({ jsonSchema, choices }: GenerateRequest, options: CoreInferOptions) {
    const { tokenizer } = this.#options;
    if (jsonSchema) return this.#grammars.json(jsonSchema, waits(options));
    return choices ? choiceConstraint(this.#texts.choices({ choices }), tokenizer.eosIds[0]!) : null;
  }

  #decoder({ choices }: GenerateRequest) {
    return choices ? choiceText(choices, this.#texts.choices({ choices })) : this.#options.tokenizer.stream();
  }

  /** A prompt, and the keys and values that its rows attend to: one block for each prompt of its stack. */
  async #acquire(digest: string, wanted: Wanted) {
    const top = await this.#prefixes.acquire(digest, still => this.#fill(digest, still), wanted);
    if (top.hit) this.#hits++;
    else this.#misses++;
    const { prompt, block, length, found } = top.value;
    const read = async () => this.#prepare(await this.#options.prompts.load(digest)).bases;
    const bases = await this.#bases(top.value.bases, read, wanted).catch(error => {
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

  async #fill(digest: string, wanted: Wanted): Promise<ReadyPrefix> {
    const prepared = this.#prepare(await this.#options.prompts.load(digest));
    const bases = await this.#basesOf(prepared, wanted);
    try {
      const past = bases.map(({ value }) => value.block);
      const { block, bytes } = await this.#layer(prepared, past, wanted);
      const shared = bases.filter(({ hit }) => hit).map(({ value }) => value.block);
      const { trained, bases: below, segments, ...prompt } = prepared;
      return {
        prompt,
        bases: below.map(({ key }) => key),
        length: prefixLength(prepared),
        block,
        bytes: bytes + (prompt.soft?.byteLength ?? 0) + textBytes(prompt),
        // A trained prefix is read, never computed: it is cached from the first request on.
        found: totalLength(shared) + (trained?.length ?? 0),
      };
    } finally {
      for (const { release } of bases) release();
    }
  }

  #basesOf({ bases }: PreparedPrompt, wanted: Wanted): Promise<Acquired<ReadyLayer>[]> {
    const keys = bases.map(({ key }) => key);
    return this.#bases(keys, async () => bases, wanted);
  }

  /** What a prompt stands on, the lowest first: kept once for all that stand on it, and read if any is missing. */
  async #bases(
    keys: readonly string[],
    read: () => Promise<readonly PreparedBase[]>,
    wanted: Wanted,
  ): Promise<Acquired<ReadyLayer>[]> {
    const acquired: Acquired<ReadyLayer>[] = [];
    try {
      for (const [at, key] of keys.entries()) {
        const past = acquired.map(({ value }) => value.block);
        const make = async (still: Wanted) => this.#layer((await read())[at]!, past, still);
        acquired.push(await this.#prefixes.acquire(key, make, wanted));
      }
      return acquired;
    } catch (error) {
      for (const { release } of acquired) release();
      throw error;
    }
  }

  #layer(layer: PreparedLayer, past: readonly KvBlock[], wanted: Wanted): Promise<ReadyLayer> {
    const { config, chunk } = this.#options;
    return this.#run(compileLayer(layer, past, config, chunk), segmentsLength(layer.segments), wanted);
  }

  /** Others may wait for the same keys and values: it ends when all have left, not when the caller that came first has. */
  #run<Value>(program: Program<Value>, tokens: number, wanted: Wanted = always): Promise<Value> {
    const options = { ...patient, cancelled: () => !wanted() };
    return this.#scheduler.submit(program, { seat: null, long: isLong(tokens), ...options });
  }

  #prepare(content: PromptContent) {
    const { tokenizer, config, compiled } = this.#options;
    return preparePrompt(content, tokenizer, config, compiled);
  }

  #targets(request: EngineRequest, { segments }: Prepared) {
    const room = branchRoom(segments, this.#options.config.maxPositions);
    return { targets: new Targets(request.targets ?? [], this.#texts.targets(request), room), room };
  }

  #longestChoice(request: GenerateRequest): number {
    return Math.max(0, ...this.#texts.choices(request).map(ids => ids.length));
  }

  /** Positions that the answer takes. What may be cut makes room for all of it, up to half of `left`, which the prompt leaves. */
  #reserve(request: EngineRequest, left: number): number {
    const targets = this.#texts.targets(request).map(ids => ids.length);
    if (request.kind === "generate") {
      const written = request.truncate && !request.choices ? Math.min(request.maxTokens, left >> 1) : 1;
      return Math.max(written, this.#longestChoice(request) + 1, ...targets);
    }
    return Math.max(
      ...this.#texts
        .labels(request.labels)
        .sequences.flatMap(label => label.sequences.map(sequence => sequence.length)),
      ...targets,
    );
  }
}

/** A prompt whose field comes first has no keys and values, and takes memory all the same. */
const textBytes = ({ template, words }: ReadyPrefix["prompt"]): number =>
  2 * template.source.length + 8 * words.length;

const usage = ({ inputTokens, cachedTokens }: Prepared, outputTokens: number) => ({
  input_tokens: inputTokens,
  cached_tokens: cachedTokens,
  output_tokens: outputTokens,
});

/** The engine's inside, in its worker: requests become programs, prompts become KV prefixes, the scheduler runs both. */

import { type Segment, segmentsLength } from "../backbone/feeds.ts";
import { ForewordError } from "../errors.ts";
import { promptDigest } from "../prompt/file.ts";
import { layoutRow } from "../prompt/layout.ts";
import { promptKind } from "../prompt/pieces.ts";
import { buildTrie } from "../prompt/trie.ts";
import type { Session } from "../runtime/runtime.ts";
import { Batch } from "./batch.ts";
import { CachedPrompts, type CachedPromptsOptions, type WithRow } from "./cached-prompts.ts";
import { classify } from "./classify.ts";
import { choiceConstraint } from "./constraint.ts";
import type {
  AnswerTo,
  ClassifyAnswer,
  ClassifyRequest,
  EngineAnswer,
  EngineRequest,
  EngineStatistics,
  GenerateAnswer,
  GenerateRequest,
  LabelVerbalizers,
  PromptContent,
  PromptInspection,
} from "./engine.ts";
import { fill, type OnKept } from "./feed.ts";
import { fitRow } from "./fit.ts";
import { closed, generate } from "./generate.ts";
import { Grammars } from "./grammars.ts";
import { joinBlocks, type KvBlock } from "./kv.ts";
import { type Beginning, BLOCK_TOKENS, LeadingText } from "./leading.ts";
import { type PreparedPrompt, prefixLength, toSegments } from "./prefix.ts";
import { PrefixCache } from "./prefix-cache.ts";
import { randomFrom } from "./sampler.ts";
import { type Program, Scheduler, type SchedulerLimits, type SubmitOptions } from "./scheduler.ts";

export interface CoreOptions extends CachedPromptsOptions {
  session: Session;
  limits: SchedulerLimits;
  cacheBytes: number;
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
  onKept?: OnKept;
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
  readonly #prompts: CachedPrompts;
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
    this.#prompts = new CachedPrompts(options, this.#prefixes);
    this.#leading = new LeadingText(this.#prefixes);
    this.#grammars = new Grammars(options.tokenizer, options.config.vocabSize);
  }

  inspect(content: PromptContent): PromptInspection {
    const prompt = this.#prompts.prepare(content);
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
    const run = <Value>(program: Program<Value>) => this.#run(program, options);
    let first = null as Promise<EngineAnswer> | null;
    const withRow: WithRow = async (prompt, past, found) => {
      const row = this.#row(request, prompt);
      const segments = [...prompt.segments, ...row];
      // Longer ones gain little, and may share their beginnings; others may wait, who shall not wait for the background.
      if (options.background || segmentsLength(segments) > BLOCK_TOKENS) return null;
      return new Promise<KvBlock>((onKept, failed) => {
        const prepared = { ...laidOut(prompt, row), past, segments, cachedTokens: found, onKept };
        first = this.#answer(request, prepared, options);
        first.catch(failed);
      });
    };
    const acquired = await this.#prompts.acquire(request.prompt, run, withRow);
    let beginning: Beginning | null = null;
    try {
      if (first) return (await first) as AnswerTo<Request>;
      const { prompt, past } = acquired;
      const row = this.#row(request, prompt);
      beginning = await this.#leading.take(request.prompt, past, row, run);
      const prepared: Prepared = {
        ...laidOut(prompt, row),
        past: [...past, ...beginning.blocks],
        segments: beginning.rest,
        cachedTokens: acquired.cached + beginning.cached,
      };
      return (await this.#answer(request, prepared, options)) as AnswerTo<Request>;
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
  prefix(content: PromptContent): Promise<KvBlock> {
    return this.#prompts.compile(content, program => this.#run(program, patient));
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

  /** What is fed behind the prompt, cut to what the backbone's context leaves where the request wants that. */
  #row(request: EngineRequest, prompt: PreparedPrompt): Segment[] {
    const { tokenizer, config } = this.#options;
    const row = layoutRow(prompt.template, tokenizer, request.fields, prompt.softLengths);
    const room = config.maxPositions - prefixLength(prompt) - this.#reserve(request);
    return toSegments(fitRow(row, room, request.truncate), prompt.soft, config.hiddenSize);
  }

  #answer(request: EngineRequest, prepared: Prepared, options: CoreInferOptions): Promise<EngineAnswer> {
    return request.kind === "classify"
      ? this.#classify(request, prepared, options)
      : this.#generate(request, prepared, options);
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
      onKept: prepared.onKept,
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
        onKept: prepared.onKept,
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

  #run<Value>(program: Program<Value>, options: CoreInferOptions): Promise<Value> {
    return this.#scheduler.submit(program, forOthersToo(options));
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

const laidOut = (prompt: PreparedPrompt, row: readonly Segment[]) => ({
  context: [...prompt.segments, ...row].flatMap(segment => ("ids" in segment ? segment.ids : [])),
  inputTokens: prefixLength(prompt) + segmentsLength(row),
});

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

/**
 * How much attention the positions of a KV prefix get from what stands behind it: the interpretability of prefixes, whose
 * keys and values are near no word. The graph that tells it is loaded when it is first asked for, over weights that the
 * serving session has mapped; one row a run.
 */
import { float32, int64, layout, segmentFeeds, segmentsLength } from "../backbone/feeds.ts";
import { attentionGraph, observed } from "../backbone/observed.ts";
import { ForewordError } from "../errors.ts";
import type { FieldValues } from "../prompt/fields.ts";
import { layoutRow } from "../prompt/layout.ts";
import { fieldsOf } from "../prompt/template.ts";
import type { Session } from "../runtime/runtime.ts";
import type { PromptAttention, PromptContent } from "./engine.ts";
import { CHUNK } from "./feed.ts";
import { boundFields } from "./fit.ts";
import type { KvBlock } from "./kv.ts";
import type { OpenedCore } from "./open.ts";
import { type PreparedPrompt, preparePrompt, toSegments } from "./prefix.ts";

export class AttentionObserver {
  readonly #opened: OpenedCore;
  #session: Promise<Session> | null = null;

  constructor(opened: OpenedCore) {
    this.#opened = opened;
  }

  /** Throws what `fillFields` throws, `input_too_long`, and `validation` for a prompt without positions. */
  async observe(content: PromptContent, inputs: readonly (string | FieldValues)[]): Promise<PromptAttention> {
    const { core, source, tokenizer, compiled } = this.#opened;
    const { config } = source;
    const prompt = preparePrompt(content, tokenizer, config, compiled);
    const block = await core.prefix(content);
    const limit = Math.min(CHUNK, config.maxPositions - block.length);
    const rows = inputs.map((input, index) => this.#row(prompt, input, index, limit));
    if (block.length === 0)
      throw new ForewordError(
        "validation",
        "The prompt has nothing before its first field, so there is no position to attend to. Name another one.",
      );
    const none = () => Array.from({ length: config.layers }, () => new Float64Array(block.length));
    const found = { ofTokens: none(), ofAnswer: none() };
    for (const row of rows) await this.#add(found, block, row, rows.length);
    const tokens = rows.reduce((sum, row) => sum + segmentsLength(row), 0);
    return { positions: this.#positions(prompt), tokens, ...found };
  }

  async close(): Promise<void> {
    await (await this.#session?.catch(() => null))?.close();
  }

  #row(prompt: PreparedPrompt, input: string | FieldValues, index: number, limit: number) {
    const { tokenizer, source } = this.#opened;
    const names = fieldsOf(prompt.template).map(({ name }) => name);
    const encode = (text: string) => tokenizer.encode(text);
    const fields = boundFields(input, names, source.config.maxPositions, encode, undefined);
    const laidOut = layoutRow(prompt.template, tokenizer, fields, prompt.softLengths);
    const row = toSegments(laidOut, prompt.soft, source.config.hiddenSize);
    const tokens = segmentsLength(row);
    if (tokens <= limit) return row;
    throw new ForewordError(
      "input_too_long",
      `inputs[${index}] has ${tokens} tokens with the template's words; attention is told of at most ${limit} behind this prompt. Shorten it by ${tokens - limit}.`,
      { tokens, limit, over: tokens - limit },
    );
  }

  /** Adds one input's share of the averages. */
  async #add(
    found: Pick<PromptAttention, "ofTokens" | "ofAnswer">,
    block: KvBlock,
    row: ReturnType<typeof toSegments>,
    inputs: number,
  ): Promise<void> {
    const { layers, heads, kvHeads, headDim, hiddenSize } = this.#opened.source.config;
    const trunk = segmentsLength(row);
    const past = block.length;
    const dims = [1, kvHeads, past, headDim];
    const cache = Array.from({ length: layers }, (_, layer) => [
      [`past_key.${layer}`, float32(dims, block.key[layer]!)],
      [`past_value.${layer}`, float32(dims, block.value[layer]!)],
    ]);
    const session = await this.#open();
    const outputs = await session.run(
      {
        ...segmentFeeds(row, hiddenSize),
        ...layout([{ past, trunk, branches: [], length: trunk }], past),
        ...Object.fromEntries(cache.flat()),
        scored: int64([1], [trunk - 1]),
      },
      Array.from({ length: layers }, (_, layer) => Object.values(observed(layer))).flat(),
    );
    for (let layer = 0; layer < layers; layer++) {
      const names = observed(layer);
      const [tokens, answer] = [outputs[names.tokens]!.data, outputs[names.scored]!.data];
      for (let position = 0; position < past; position++) {
        found.ofTokens[layer]![position]! += Number(tokens[position]) / (heads * trunk * inputs);
        found.ofAnswer[layer]![position]! += Number(answer[position]) / (heads * inputs);
      }
    }
  }

  #open(): Promise<Session> {
    const { runtime, compiled, source } = this.#opened;
    const graph = attentionGraph(compiled.graph, source.config.layers);
    this.#session ??= runtime.load(graph, compiled.weights, { packed: false, memory: "returned" });
    // A failure is not kept: there may be room for it later.
    this.#session.catch(() => {
      this.#session = null;
    });
    return this.#session;
  }

  /** Those of what the prompt stands on come first. */
  #positions(prompt: PreparedPrompt): PromptAttention["positions"] {
    const { tokenizer } = this.#opened;
    return [...prompt.bases, prompt].flatMap(({ trained, segments }) => [
      ...Array.from({ length: trained?.length ?? 0 }, () => ({ kind: "trained" as const })),
      ...segments.flatMap((segment): PromptAttention["positions"] =>
        "ids" in segment
          ? segment.ids.map(id => ({
              kind: "word",
              text: tokenizer.decode([id], { skipSpecial: false }),
            }))
          : Array.from({ length: segment.count }, () => ({ kind: "virtual" })),
      ),
    ]);
  }
}

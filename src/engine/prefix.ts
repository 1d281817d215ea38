/** A prompt made ready to serve: its KV prefix, those of the prompts it stands on, and what its rows are laid out by. */
import { createHash } from "node:crypto";
import { moveKeys } from "../backbone/architectures/rotary.ts";
import { type Segment, segmentsLength } from "../backbone/feeds.ts";
import type { BackboneConfig } from "../backbone/source.ts";
import type { CompiledBackbone } from "../compile/backbone.ts";
import { scaleValues } from "../compile/basis.ts";
import { ForewordError } from "../errors.ts";
import type { TextCodec } from "../prompt/codec.ts";
import {
  isTrained,
  type PrefixParameters,
  type PromptFile,
  type PromptLayer,
  readPromptFile,
  type SoftParameters,
} from "../prompt/file.ts";
import {
  type Segment as LaidOut,
  layoutPrefix,
  layoutWritten,
  softLengths,
  wholeBefore,
} from "../prompt/layout.ts";
import { type CompiledTemplate, compileTemplate } from "../prompt/template.ts";
import type { PromptContent } from "./engine.ts";
import { fill } from "./feed.ts";
import { blockBytes, emptyBlock, joinBlocks, type KvBlock } from "./kv.ts";
import type { Program } from "./scheduler.ts";

/** One prompt of a stack: what it adds to the keys and values of those below. */
export interface PreparedLayer {
  /** The trained prefix, where it stands, or null. */
  trained: KvBlock | null;
  /** What is fed behind the trained prefix, up to the first field. */
  segments: Segment[];
  /** Rows of each of its slots, in template order. */
  softLengths: readonly number[];
}

/** A prompt that others are stacked on: all that have the same one share its keys and values. */
export interface PreparedBase extends PreparedLayer {
  /** Identifies it together with all below it. */
  key: string;
}

export interface PreparedPrompt extends PreparedLayer {
  template: CompiledTemplate;
  /** Embeddings of the virtual tokens, [P, hidden]. */
  soft: Float32Array | null;
  /** What it stands on, the lowest first. */
  bases: readonly PreparedBase[];
  /** Token ids before the first field, those below included. */
  words: readonly number[];
}

/** Keys and values of one prompt of a stack. */
export interface ReadyLayer {
  block: KvBlock;
  bytes: number;
}

/**
 * Without what its keys and values were made of: a trained prefix would stand in memory twice, and that of a prompt below
 * once for each prompt on it, beside the cache's limit.
 */
export interface ReadyPrefix extends ReadyLayer {
  prompt: Omit<PreparedPrompt, "trained" | "bases" | "segments">;
  /** Keys of the prompts that it stands on, the lowest first. */
  bases: readonly string[];
  /** Positions, those below included. */
  length: number;
  /** Positions, those below included, that were there when it was compiled. */
  found: number;
}

/**
 * Reads and checks a prompt. Throws `bad_template`, `bad_tensor` (shapes that do not fit the backbone), and
 * `backbone_mismatch`.
 */
export function preparePrompt(
  content: PromptContent,
  codec: TextCodec,
  config: BackboneConfig,
  compiled: Pick<CompiledBackbone, "fingerprint" | "valueScales">,
): PreparedPrompt {
  const file = content.parameters ? readPromptFile(content.parameters) : null;
  if (file && isTrained(file)) checkBackbone(file, compiled.fingerprint);
  const { bases = [], ...own } = file ?? { template: content.template };
  const key = createHash("sha256");
  let start = 0;
  const prepared = bases.map(base => {
    const layer = prepareLayer(base, start, wholeBefore, codec, config, compiled);
    start += layerLength(layer);
    // With lengths, so that no two stacks are the same bytes.
    const parts = [base.soft?.data, base.prefix?.key, base.prefix?.value];
    key.update(JSON.stringify([base.template, ...parts.map(part => part?.byteLength ?? null)]));
    for (const part of parts) if (part) key.update(part);
    return { ...layer, key: key.copy().digest("hex") };
  });
  // A prompt's words are its version's; the file names them too.
  const layer = { ...own, template: content.template };
  const top = prepareLayer(layer, start, asWritten, codec, config, compiled);
  const words = [...prepared, top]
    .flatMap(({ segments }) => segments)
    .flatMap(segment => ("ids" in segment ? segment.ids : []));
  return { ...top, bases: prepared, words };
}

function prepareLayer(
  { template: source, soft, prefix }: PromptLayer,
  start: number,
  cut: typeof wholeBefore,
  codec: TextCodec,
  config: BackboneConfig,
  { valueScales }: Pick<CompiledBackbone, "valueScales">,
): Omit<PreparedPrompt, "bases" | "words"> {
  const template = compileTemplate(source);
  const lengths = softLengths(template, codec);
  checkShapes(soft, prefix, lengths, config);
  const trained = prefix ? blockOf(prefix, valueScales, start, config) : null;
  // A trained prefix began as a forward pass that had BOS first: it is inside already. Below others it is the lowest's.
  const layOut = trained || start > 0 ? layoutWritten : layoutPrefix;
  const segments = layOut(cut(template), codec, lengths);
  return {
    template,
    softLengths: lengths,
    soft: soft?.data ?? null,
    trained,
    segments: toSegments(segments, soft?.data ?? null, config.hiddenSize),
  };
}

const asWritten = (template: CompiledTemplate): CompiledTemplate => template;

const layerLength = ({ trained, segments }: PreparedLayer): number =>
  (trained?.length ?? 0) + segmentsLength(segments);

/** Positions of the KV prefix, those of what the prompt stands on included. */
export const prefixLength = (prompt: PreparedPrompt): number =>
  [...prompt.bases, prompt].reduce((sum, layer) => sum + layerLength(layer), 0);

/** Runs what a prompt adds to `past`, once, `chunk` tokens a run. */
export function* compileLayer(
  { trained, segments }: PreparedLayer,
  past: readonly KvBlock[],
  config: BackboneConfig,
  chunk?: number,
): Program<ReadyLayer> {
  const before = trained ? [...past, trained] : past;
  const blocks = segmentsLength(segments) > 0 ? yield* fill(before, segments, chunk) : before;
  const own = blocks.slice(past.length);
  const block = own.length > 0 ? joinBlocks(own, config) : emptyBlock(config);
  return { block, bytes: blockBytes(block) };
}

/** Laid-out positions as what the step graph takes. */
export function toSegments(
  laidOut: readonly LaidOut[],
  soft: Float32Array | null,
  hidden: number,
): Segment[] {
  return laidOut
    .map((segment): Segment => {
      if ("ids" in segment) return { ids: segment.ids };
      const { from, length } = segment.soft;
      return { virtual: soft!.subarray(from * hidden, (from + length) * hidden), count: length };
    })
    .filter(segment => !("ids" in segment) || segment.ids.length > 0);
}

function checkBackbone({ backbone }: PromptFile, fingerprint: string): void {
  if (backbone === fingerprint) return;
  const detail = `The prompt was trained on the backbone ${backbone.slice(0, 12)}…, this server runs ${fingerprint.slice(0, 12)}…. Train it again here, or serve its own backbone.`;
  throw new ForewordError("backbone_mismatch", detail, { prompt: backbone, backbone: fingerprint });
}

function checkShapes(
  soft: SoftParameters | undefined,
  prefix: PrefixParameters | undefined,
  lengths: readonly number[],
  config: BackboneConfig,
): void {
  const slots = lengths.reduce((sum, length) => sum + length, 0);
  if (slots > 0 && !soft) {
    throw new ForewordError(
      "bad_template",
      "The template has soft slots, which only a trained prompt fills. Train one, or leave the slots out.",
    );
  }
  expect("soft", soft?.dims, [slots, config.hiddenSize]);
  expect("prefix.key", prefix?.dims, [config.layers, config.kvHeads, prefix?.dims[2] ?? 0, config.headDim]);
}

function expect(tensor: string, dims: readonly number[] | undefined, wanted: readonly number[]): void {
  if (!dims || dims.join() === wanted.join()) return;
  const detail = `Tensor "${tensor}" has the shape [${dims.join(", ")}]; this template and backbone need [${wanted.join(", ")}].`;
  throw new ForewordError("bad_tensor", detail, { tensor });
}

/** A stored prefix as this variant of the backbone keeps keys and values, from position `start` on. */
function blockOf(
  { dims, key, value }: PrefixParameters,
  scales: CompiledBackbone["valueScales"],
  start: number,
  config: BackboneConfig,
): KvBlock {
  const [layers, kvHeads, length, headDim] = dims;
  const width = kvHeads * length * headDim;
  const layersOf = (data: Float32Array) =>
    Array.from({ length: layers }, (_, layer) => data.subarray(layer * width, (layer + 1) * width));
  const values = layersOf(value);
  return {
    length,
    key: layersOf(key).map(data => moveKeys(data, start, config)),
    value: scales
      ? values.map((data, layer) =>
          scaleValues(data, scales[layer]!, { kvHeads, headDim }, "into the variant"),
        )
      : values,
  };
}

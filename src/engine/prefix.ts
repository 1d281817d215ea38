/** A prompt made ready to serve: its KV prefix, and what its rows are laid out by. */

import { type Segment, segmentsLength } from "../backbone/feeds.ts";
import type { BackboneConfig } from "../backbone/source.ts";
import type { CompiledBackbone } from "../compile/backbone.ts";
import { scaleValues } from "../compile/basis.ts";
import { ForewordError } from "../errors.ts";
import type { TextCodec } from "../prompt/codec.ts";
import { type PromptFile, readPromptFile } from "../prompt/file.ts";
import { type Segment as LaidOut, layoutPrefix, layoutWritten, softLengths } from "../prompt/layout.ts";
import { type CompiledTemplate, compileTemplate } from "../prompt/template.ts";
import type { PromptContent } from "./engine.ts";
import { fill } from "./feed.ts";
import { blockBytes, joinBlocks, type KvBlock } from "./kv.ts";
import type { Program } from "./scheduler.ts";

export interface PreparedPrompt {
  template: CompiledTemplate;
  softLengths: readonly number[];
  /** Embeddings of the virtual tokens, [P, hidden]. */
  soft: Float32Array | null;
  /** The trained prefix, or null. */
  trained: KvBlock | null;
  /** What is fed behind the trained prefix, up to the first field. */
  segments: Segment[];
}

export interface ReadyPrefix {
  prompt: PreparedPrompt;
  block: KvBlock;
  bytes: number;
}

/**
 * Reads and checks a prompt. Throws `bad_template`, `bad_tensor` (shapes that do not fit the backbone), and
 * `backbone_mismatch`.
 */
export function preparePrompt(
  content: PromptContent,
  codec: TextCodec,
  config: BackboneConfig,
  { fingerprint, valueScales }: Pick<CompiledBackbone, "fingerprint" | "valueScales">,
): PreparedPrompt {
  const file = content.parameters ? readPromptFile(content.parameters) : null;
  const template = compileTemplate(content.template);
  const lengths = softLengths(template, codec);
  if (file) checkParameters(file, lengths, config, fingerprint);
  else if (lengths.length > 0) {
    throw new ForewordError(
      "bad_template",
      "The template has soft slots, which only a trained prompt fills. Train one, or leave the slots out.",
    );
  }
  const soft = file?.soft?.data ?? null;
  const trained = file?.prefix ? blockOf(file.prefix, valueScales) : null;
  // A trained prefix began as a forward pass that had BOS first: it is inside already.
  const segments = (trained ? layoutWritten : layoutPrefix)(template, codec, lengths);
  return {
    template,
    softLengths: lengths,
    soft,
    trained,
    segments: toSegments(segments, soft, config.hiddenSize),
  };
}

/** Positions of the KV prefix. */
export const prefixLength = ({ trained, segments }: PreparedPrompt): number =>
  (trained?.length ?? 0) + segmentsLength(segments);

/** Runs what stands before the first field, once. */
export function* compilePrefix(
  prompt: PreparedPrompt,
  config: BackboneConfig,
  empty: KvBlock,
  chunk?: number,
): Program<ReadyPrefix> {
  const trained = prompt.trained ? [prompt.trained] : [];
  const blocks = segmentsLength(prompt.segments) > 0 ? yield* fill(trained, prompt.segments, chunk) : trained;
  const block = blocks.length > 0 ? joinBlocks(blocks, config) : empty;
  return { prompt, block, bytes: blockBytes(block) + (prompt.soft?.byteLength ?? 0) };
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

function checkParameters(
  { backbone, soft, prefix }: PromptFile,
  lengths: readonly number[],
  config: BackboneConfig,
  fingerprint: string,
): void {
  if (backbone !== fingerprint) {
    const detail = `The prompt was trained on the backbone ${backbone.slice(0, 12)}…, this server runs ${fingerprint.slice(0, 12)}…. Train it again here, or serve its own backbone.`;
    throw new ForewordError("backbone_mismatch", detail, { prompt: backbone, backbone: fingerprint });
  }
  const slots = lengths.reduce((sum, length) => sum + length, 0);
  expect("soft", soft?.dims, [slots, config.hiddenSize]);
  expect("prefix.key", prefix?.dims, [config.layers, config.kvHeads, prefix?.dims[2] ?? 0, config.headDim]);
}

function expect(tensor: string, dims: readonly number[] | undefined, wanted: readonly number[]): void {
  if (!dims || dims.join() === wanted.join()) return;
  const detail = `Tensor "${tensor}" has the shape [${dims.join(", ")}]; this template and backbone need [${wanted.join(", ")}].`;
  throw new ForewordError("bad_tensor", detail, { tensor });
}

/** A stored prefix as this variant of the backbone keeps keys and values. */
function blockOf(
  { dims, key, value }: NonNullable<PromptFile["prefix"]>,
  scales: CompiledBackbone["valueScales"],
): KvBlock {
  const [layers, kvHeads, length, headDim] = dims;
  const width = kvHeads * length * headDim;
  const layersOf = (data: Float32Array) =>
    Array.from({ length: layers }, (_, layer) => data.subarray(layer * width, (layer + 1) * width));
  const values = layersOf(value);
  return {
    length,
    key: layersOf(key),
    value: scales
      ? values.map((data, layer) =>
          scaleValues(data, scales[layer]!, { kvHeads, headDim }, "into the variant"),
        )
      : values,
  };
}

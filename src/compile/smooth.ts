/**
 * SmoothQuant (Xiao et al. 2023): an activation channel that is large everywhere is divided by a factor, and what reads
 * it is multiplied, so that both quantise well. Every factor folds into the weights that make the channel (a norm's gain,
 * the rows of a projection), so nothing changes at fp32 and nothing is paid at run time.
 */

import { vocabularyOf } from "../backbone/names.ts";
import type { BackboneConfig } from "../backbone/source.ts";

/** How much of a channel's range moves into the weights. Measured on SmolLM2: docs/decisions.md. */
const ALPHA = 0.72;
/** A channel that never occurs is left as it is. */
const LEAST = 1e-5;

export interface Side {
  /** A tensor of the backbone. */
  name: string;
  /** The axis that the channels run along, and where they begin on it. */
  axis: number;
  from?: number;
}

/** Activations that are smoothed together. */
export interface Group {
  /** Divided: what the channels come from. None where the activation itself is divided, at run time. */
  makers: readonly Side[];
  /** Multiplied: linear layers over the activation. Their common input is measured. */
  readers: readonly Side[];
  /** Channels of the makers. */
  channels: number;
  /** Which of those each channel of the activation is a copy of; by default they are the same. */
  copies?: readonly number[];
  /** Whether the channels are a layer's values, which the key/value cache holds. */
  values?: boolean;
}

/** Query heads of one group read the same values. */
const valueCopies = ({ heads, kvHeads, headDim }: BackboneConfig): number[] =>
  Array.from({ length: heads * headDim }, (_, i) => {
    const [head, within] = [Math.floor(i / headDim), i % headDim];
    return Math.floor(head / (heads / kvHeads)) * headDim + within;
  });

function llamaGroups(config: BackboneConfig, layer: number): Group[] {
  const { hiddenSize, intermediateSize, kvHeads, headDim, architecture } = config;
  const at = (name: string) => `layers.${layer}.${name}`;
  const reads = (...names: string[]) => names.map(name => ({ name: at(`${name}.weight`), axis: 1 }));
  const rows = (name: string, bias: boolean) => [
    { name: at(`${name}.weight`), axis: 0 },
    ...(bias ? [{ name: at(`${name}.bias`), axis: 0 }] : []),
  ];
  return [
    {
      makers: [{ name: at("input_layernorm.weight"), axis: 0 }],
      readers: reads("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
      channels: hiddenSize,
    },
    {
      makers: rows("self_attn.v_proj", config.attentionBias || architecture === "qwen2"),
      readers: reads("self_attn.o_proj"),
      channels: kvHeads * headDim,
      copies: valueCopies(config),
      values: true,
    },
    {
      makers: [{ name: at("post_attention_layernorm.weight"), axis: 0 }],
      readers: reads("mlp.gate_proj", "mlp.up_proj"),
      channels: hiddenSize,
    },
    {
      makers: rows("mlp.up_proj", config.mlpBias),
      readers: reads("mlp.down_proj"),
      channels: intermediateSize,
    },
  ];
}

/** What `c_proj` reads after GELU cannot be divided before it, so that layer is in no group. */
function gpt2Groups({ hiddenSize }: BackboneConfig, layer: number): Group[] {
  const at = (name: string) => `h.${layer}.${name}`;
  const norm = (name: string) => [
    { name: at(`${name}.weight`), axis: 0 },
    { name: at(`${name}.bias`), axis: 0 },
  ];
  const reads = (name: string) => [{ name: at(`${name}.weight`), axis: 0 }];
  return [
    { makers: norm("ln_1"), readers: reads("attn.c_attn"), channels: hiddenSize },
    {
      makers: [
        { name: at("attn.c_attn.weight"), axis: 1, from: 2 * hiddenSize },
        { name: at("attn.c_attn.bias"), axis: 0, from: 2 * hiddenSize },
      ],
      readers: reads("attn.c_proj"),
      channels: hiddenSize,
      values: true,
    },
    { makers: norm("ln_2"), readers: reads("mlp.c_fc"), channels: hiddenSize },
  ];
}

/** The last norm feeds the verbalizers' rows too, which stay float32: its output is divided on the way to the logits. */
const vocabularyGroup = (config: BackboneConfig): Group => ({
  makers: [],
  readers: [{ name: vocabularyOf(config), axis: 1 }],
  channels: config.hiddenSize,
});

/** The groups of every layer, in order, and the vocabulary's. */
export const smoothingGroups = (config: BackboneConfig): Group[] => [
  ...Array.from({ length: config.layers }, (_, layer) =>
    config.architecture === "gpt2" ? gpt2Groups(config, layer) : llamaGroups(config, layer),
  ).flat(),
  vocabularyGroup(config),
];

/** A channel's factor from the largest activation and the largest weight on it: a^α / w^(1-α). */
export function factorsOf(
  { channels, copies }: Group,
  activations: Float32Array,
  weights: Float32Array,
): Float32Array {
  const [a, w] = [largestOf(activations, channels, copies), largestOf(weights, channels, copies)];
  return a.map((value, i) =>
    value > LEAST && w[i]! > LEAST ? Math.max(LEAST, value ** ALPHA / w[i]! ** (1 - ALPHA)) : 1,
  );
}

/** The largest of each maker channel's copies. */
function largestOf(data: Float32Array, channels: number, copies?: readonly number[]): Float32Array {
  if (!copies) return data;
  const out = new Float32Array(channels);
  for (const [i, channel] of copies.entries()) out[channel] = Math.max(out[channel]!, data[i]!);
  return out;
}

/** Factors of the makers' channels, a channel of the activation each. */
export const spread = ({ copies }: Group, factors: Float32Array): Float32Array =>
  copies ? Float32Array.from(copies, channel => factors[channel]!) : factors;

/** Largest absolute value at each index of an axis of a vector or a matrix. */
export function largestAlong(data: Float32Array, dims: readonly number[], axis: number): Float32Array {
  const out = new Float32Array(dims[axis]!);
  const width = dims.at(-1)!;
  const byRow = axis < dims.length - 1;
  for (let row = 0, at = 0; at < data.length; row++) {
    for (let column = 0; column < width; column++, at++) {
      const size = Math.abs(data[at]!);
      const index = byRow ? row : column;
      if (size > out[index]!) out[index] = size;
    }
  }
  return out;
}

/** Multiplies a vector or a matrix, in place, along an axis. */
export function scaleAlong(
  data: Float32Array,
  dims: readonly number[],
  { axis, from = 0 }: Side,
  by: Float32Array,
): void {
  const width = dims.at(-1)!;
  const byRow = axis < dims.length - 1;
  for (let row = 0, at = 0; at < data.length; row++) {
    for (let column = 0; column < width; column++, at++) {
      const index = (byRow ? row : column) - from;
      if (index >= 0 && index < by.length) data[at] = data[at]! * by[index]!;
    }
  }
}

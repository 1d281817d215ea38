import type { GraphBuilder } from "../../graph/builder.ts";
import type { Constant } from "../../graph/graph.ts";
import type { BackboneConfig } from "../source.ts";

/**
 * Cosines and sines of every position, float32 [maxPositions, headDim/2] (Su et al. 2021), with Llama 3's scaling of the
 * low frequencies or linear position interpolation where the config asks for it. Computed in double precision. Times
 * `scale`, they scale what they rotate at no cost.
 */
export function rotaryTables(
  g: GraphBuilder,
  config: BackboneConfig,
  name: string,
  scale = 1,
): { cos: Constant; sin: Constant } {
  const frequencies = rotaryFrequencies(config);
  const shape = [config.maxPositions, frequencies.length];
  const table = (f: (angle: number) => number) => {
    const data = new Float32Array(config.maxPositions * frequencies.length);
    for (let position = 0, at = 0; position < config.maxPositions; position++) {
      for (const frequency of frequencies) data[at++] = scale * f(position * frequency);
    }
    return data;
  };
  return {
    cos: g.constant(`${name}_cos`, "float32", shape, table(Math.cos)),
    sin: g.constant(`${name}_sin`, "float32", shape, table(Math.sin)),
  };
}

/**
 * Keys [kvHeads, length, headDim] of one layer, as they would be `by` positions further on: rotated once more, since
 * rotations add up. Architectures without rotary embedding keep what they learnt of positions: their keys stay.
 */
export function moveKeys(keys: Float32Array, by: number, config: BackboneConfig): Float32Array {
  if (by === 0 || config.architecture === "gpt2") return keys;
  const half = config.headDim / 2;
  const angles = rotaryFrequencies(config).map(frequency => by * frequency);
  const [cos, sin] = [angles.map(Math.cos), angles.map(Math.sin)];
  const moved = new Float32Array(keys.length);
  for (let at = 0; at < keys.length; at += config.headDim) {
    for (let i = 0; i < half; i++) {
      const [x, y] = [keys[at + i]!, keys[at + half + i]!];
      moved[at + i] = x * cos[i]! - y * sin[i]!;
      moved[at + half + i] = y * cos[i]! + x * sin[i]!;
    }
  }
  return moved;
}

function rotaryFrequencies({ headDim, ropeTheta, ropeScaling }: BackboneConfig): number[] {
  const plain = Array.from({ length: headDim / 2 }, (_, i) => ropeTheta ** ((-2 * i) / headDim));
  if (ropeScaling === null) return plain;
  if (ropeScaling.type === "linear") return plain.map(frequency => frequency / ropeScaling.factor);
  const { factor, lowFrequencyFactor: low, highFrequencyFactor: high, originalMaxPositions } = ropeScaling;
  return plain.map(frequency => {
    const turns = (originalMaxPositions * frequency) / (2 * Math.PI);
    if (turns > high) return frequency;
    if (turns < low) return frequency / factor;
    const blend = (turns - low) / (high - low);
    return (1 - blend) * (frequency / factor) + blend * frequency;
  });
}

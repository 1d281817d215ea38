/**
 * A trained prompt as a point, to compare tasks by (task embeddings of SPoT, Vu et al. 2022, section 4). Both of the
 * paper's measures are products of one vector a prompt: the cosine of two averages, and, since a cosine is linear in
 * either unit vector, the average cosine of all pairs of positions as the product of the averages of unit vectors.
 *
 * A prefix is compared by its values, a layer at a time, since their size differs forty-fold between layers. Keys are
 * left out: they are stored after rotary, so the same key at two positions points in two directions.
 */
import type { TrainedKind } from "../contract/transfer.ts";
import type { PromptFile } from "./file.ts";

export interface TaskEmbedding {
  positions: number;
  layers: number;
  /** Averages over the positions, each layer's of length 1: [layers, width]. */
  average: Float32Array;
  /** Averages of unit vectors, a layer each: [layers, width]. */
  units: Float32Array;
  bytes: number;
}

/** Throws where the file has nothing of the kind. */
export function taskEmbedding({ soft, prefix }: PromptFile, kind: TrainedKind): TaskEmbedding {
  if (kind === "soft" && soft) {
    const [positions, hidden] = soft.dims;
    return embed(positions, 1, hidden, (_, position) =>
      soft.data.subarray(position * hidden, (position + 1) * hidden),
    );
  }
  if (kind === "prefix" && prefix) {
    const [layers, kvHeads, positions, headDim] = prefix.dims;
    const vector = new Float32Array(kvHeads * headDim);
    return embed(positions, layers, vector.length, (layer, position) => {
      for (let head = 0; head < kvHeads; head++) {
        const from = ((layer * kvHeads + head) * positions + position) * headDim;
        vector.set(prefix.value.subarray(from, from + headDim), head * headDim);
      }
      return vector;
    });
  }
  throw new RangeError(`the prompt has no parameters of kind ${kind}`);
}

/** Cosines from -1 to 1; layers count alike. */
export function similarity(
  a: TaskEmbedding,
  b: TaskEmbedding,
): { average_tokens: number; token_pairs: number } {
  return {
    average_tokens: product(a.average, b.average) / a.layers,
    token_pairs: product(a.units, b.units) / a.layers,
  };
}

function embed(
  positions: number,
  layers: number,
  width: number,
  at: (layer: number, position: number) => Float32Array,
): TaskEmbedding {
  const average = new Float32Array(layers * width);
  const units = new Float32Array(layers * width);
  for (let layer = 0; layer < layers; layer++) {
    const mean = average.subarray(layer * width, (layer + 1) * width);
    const unit = units.subarray(layer * width, (layer + 1) * width);
    for (let position = 0; position < positions; position++) {
      const vector = at(layer, position);
      add(mean, vector, 1 / positions);
      add(unit, vector, 1 / (positions * lengthOf(vector)));
    }
    const length = lengthOf(mean);
    for (let i = 0; i < width; i++) mean[i]! /= length;
  }
  return { positions, layers, average, units, bytes: average.byteLength + units.byteLength };
}

function add(to: Float32Array, vector: Float32Array, times: number): void {
  for (let i = 0; i < vector.length; i++) to[i]! += times * vector[i]!;
}

function product(a: Float32Array, b: Float32Array): number {
  let sum = 0;
  for (let i = 0; i < a.length; i++) sum += a[i]! * b[i]!;
  return sum;
}

/** Never 0: a vector of zeros is like nothing, and its cosines are 0. */
const lengthOf = (vector: Float32Array): number => Math.sqrt(product(vector, vector)) || 1;

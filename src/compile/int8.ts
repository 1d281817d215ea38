/**
 * The int8 variant of a backbone: smoothed, then its linear layers in codes for both directions, the vocabulary's rows
 * in codes for logits alone (their gradient is mostly made of small probabilities, which codes would lose). Norms,
 * embeddings, attention and what cannot be smoothed stay float32.
 */
import { join } from "node:path";
import { vocabularyOf } from "../backbone/names.ts";
import type { BackboneConfig, BackboneSource } from "../backbone/source.ts";
import type { Graph } from "../graph/graph.ts";
import { CODES, type CodeType, codesOf, quantise, ZERO_POINT } from "../graph/quantise.ts";
import type { Runtime, WeightFile } from "../runtime/runtime.ts";
import type { CompiledBackbone, Progress } from "./backbone.ts";
import { largestActivations } from "./calibrate.ts";
import { factorsOf, largestAlong, type Side, scaleAlong, smoothingGroups, spread } from "./smooth.ts";
import { calibrationTexts } from "./texts.ts";
import { cachedWeights, type NamedTensor, readFloats, writeWeights } from "./weight-file.ts";

/** Part of the cache's key: raise it when the codes or the files' layout change. */
const COMPILER = 1;
const PHASE = "quantising the backbone (once)";

const valueScale = (layer: number) => `value_scale.${layer}`;

export interface CompileContext {
  /** Measures the activations of the float32 variant. */
  runtime: Runtime;
  encode: (text: string) => number[];
  cache: string;
  /** The codes of the weights, int8 by default. */
  codes?: CodeType;
}

export const compileInt8 = (
  source: BackboneSource,
  plain: CompiledBackbone,
  context: CompileContext,
  progress: Progress,
): Promise<CompiledBackbone> => compileSmoothed(source, plain, context, codingOf(source.config), progress);

/** The smoothed backbone with the products that `coding` names in codes; with none, it computes what fp32 does. */
export async function compileSmoothed(
  source: BackboneSource,
  plain: CompiledBackbone,
  { runtime, encode, cache, codes: type = "int8" }: CompileContext,
  coding: CodingOf,
  progress: Progress,
): Promise<CompiledBackbone> {
  const { config } = source;
  const { fingerprint } = plain;
  const folder = int8Folder(cache, fingerprint, type);
  const found = async () => {
    const factors = await smoothing(source, plain, runtime, encode, progress);
    return writeWeights(folder, tensors(source, plain, factors, coding, type, progress));
  };
  const weights = (await cachedWeights(folder)) ?? (await found());
  const compile = (graph: Graph) => quantise(graph, coding, type);
  return {
    precision: "int8",
    graph: compile(plain.graph),
    weights,
    fingerprint,
    valueScales: await scalesOf(weights, config),
    compile,
  };
}

export const int8Folder = (cache: string, fingerprint: string, codes: CodeType): string =>
  join(cache, `${fingerprint.slice(0, 32)}-${codes}-v${COMPILER}`);

type CodingOf = Parameters<typeof quantise>[1];

/** Which products are in codes. */
function codingOf(config: BackboneConfig): CodingOf {
  const vocabulary = vocabularyOf(config);
  const layers = new Set(smoothingGroups(config).flatMap(({ readers }) => readers.map(({ name }) => name)));
  layers.delete(vocabulary);
  return (weight, transposed) => {
    if (weight === vocabulary) return transposed ? { divided: true } : null;
    return layers.has(weight) ? { divided: false } : null;
  };
}

const scalesOf = ({ path, entries }: WeightFile, { layers }: BackboneConfig): Promise<Float32Array[]> =>
  Promise.all(Array.from({ length: layers }, (_, layer) => readFloats({ path, entries }, valueScale(layer))));

interface Smoothing {
  /** What each tensor is multiplied by, and along which axis. */
  sides: Map<string, { side: Side; by: Float32Array }[]>;
  /** What values are divided by, a layer each. */
  values: Float32Array[];
}

async function smoothing(
  source: BackboneSource,
  { graph, weights }: CompiledBackbone,
  runtime: Runtime,
  encode: (text: string) => number[],
  progress: Progress,
): Promise<Smoothing> {
  const { config } = source;
  const groups = smoothingGroups(config);
  const largest = await largestActivations(
    runtime,
    { graph, weights, config },
    groups.map(({ readers }) => readers[0]!.name),
    calibrationTexts.map(encode),
    done => progress(PHASE, done / 2),
  );
  const sides: Smoothing["sides"] = new Map();
  const values: Float32Array[] = [];
  const add = (side: Side, by: Float32Array) =>
    sides.set(side.name, [...(sides.get(side.name) ?? []), { side, by }]);
  for (const group of groups) {
    const onWeights = await Promise.all(
      group.readers.map(async ({ name, axis }) =>
        largestAlong(await source.read(name), source.tensors.get(name)!, axis),
      ),
    );
    const together = onWeights.reduce((a, b) => a.map((value, i) => Math.max(value, b[i]!)));
    const factors = factorsOf(group, largest.get(group.readers[0]!.name)!, together);
    for (const maker of group.makers)
      add(
        maker,
        factors.map(factor => 1 / factor),
      );
    for (const reader of group.readers) add(reader, spread(group, factors));
    if (group.values) values.push(factors);
  }
  return { sides, values };
}

async function* tensors(
  source: BackboneSource,
  { graph }: CompiledBackbone,
  { sides, values }: Smoothing,
  coding: CodingOf,
  type: CodeType,
  progress: Progress,
): AsyncGenerator<NamedTensor> {
  for (const [layer, data] of values.entries()) yield { name: valueScale(layer), data };
  const vocabulary = vocabularyOf(source.config);
  const divisors = sides.get(vocabulary)![0]!.by;
  for (const [done, { name, shape }] of graph.weights.entries()) {
    progress(PHASE, (1 + done / graph.weights.length) / 2);
    const data = await source.read(name);
    const ways = [false, true].filter(transposed => shape.length === 2 && coding(name, transposed));
    // The embedding's rows, and the verbalizers', stay what they are: only the codes are of the scaled ones.
    if (name === vocabulary)
      yield* [
        { name, data },
        { name: codesOf(name, true).divisors, data: divisors },
      ];
    for (const { side, by } of sides.get(name) ?? []) scaleAlong(data, shape, side, by);
    if (ways.length === 0 && name !== vocabulary) yield { name, data };
    for (const transposed of ways) yield* codes(name, data, shape as [number, number], transposed, type);
  }
}

/** Codes of a product's right side, [in, out], and a scale for each of its output channels. */
function* codes(
  name: string,
  data: Float32Array,
  shape: readonly [number, number],
  transposed: boolean,
  type: CodeType,
): Generator<NamedTensor> {
  const [from, into] = transposed ? [shape[1], shape[0]] : shape;
  const scales = largestAlong(data, shape, transposed ? 0 : 1).map(largest => largest / CODES || 1);
  const [out, zero] =
    type === "int8" ? [new Int8Array(from * into), 0] : [new Uint8Array(from * into), ZERO_POINT];
  const inverse = Float64Array.from(scales, scale => 1 / scale);
  const [step, stride] = transposed ? [1, from] : [into, 1];
  for (let i = 0, at = 0; i < from; i++)
    for (let j = 0; j < into; j++, at++)
      out[at] = Math.round(data[i * step + j * stride]! * inverse[j]!) + zero;
  const names = codesOf(name, transposed);
  yield { name: names.codes, data: out };
  yield { name: names.scales, data: scales };
}

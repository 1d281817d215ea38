/** Backbone → what a runtime loads: the step graph and one flat file of float32 weights, cached on disk by fingerprint. */
import { join } from "node:path";
import { architectures } from "../backbone/architectures/index.ts";
import type { BackboneSource } from "../backbone/source.ts";
import { ForewordError } from "../errors.ts";
import type { Graph } from "../graph/graph.ts";
import type { WeightFile } from "../runtime/runtime.ts";
import { cachedWeights, type NamedTensor, writeWeights } from "./weight-file.ts";

/** Part of the cache's key: raise it when the layout of the files changes. */
const COMPILER = 1;

export interface CompiledBackbone {
  precision: "fp32" | "int8";
  /** One step of the engine. */
  graph: Graph;
  weights: WeightFile;
  fingerprint: string;
  /**
   * What a layer's values are divided by in this variant, [kvHeads · headDim], to come from the backbone's own basis;
   * null where they are as the backbone has them.
   */
  valueScales: readonly Float32Array[] | null;
  /** A graph over the backbone's own weights (a step, or its gradient), as this variant computes it. */
  compile(graph: Graph): Graph;
}

export type Progress = (phase: string, done: number | null) => void;

/** Compiles once; later calls find the cached file. Throws `bad_backbone` where a tensor is missing or misshapen. */
export async function compileBackbone(
  source: BackboneSource,
  cache: string,
  progress: Progress,
): Promise<CompiledBackbone> {
  const graph = architectures[source.config.architecture](source.config);
  checkTensors(source, graph);
  const fingerprint = await fingerprintOf(source, progress);
  const folder = plainFolder(cache, fingerprint);
  const weights =
    (await cachedWeights(folder)) ?? (await writeWeights(folder, tensors(source, graph, progress)));
  return { precision: "fp32", graph, weights, fingerprint, valueScales: null, compile: same => same };
}

export const fingerprintOf = (source: BackboneSource, progress: Progress): Promise<string> =>
  source.fingerprint(done => progress("checking the backbone's fingerprint", done));

export const plainFolder = (cache: string, fingerprint: string): string =>
  join(cache, `${fingerprint.slice(0, 32)}-fp32-v${COMPILER}`);

async function* tensors(
  source: BackboneSource,
  graph: Graph,
  progress: Progress,
): AsyncGenerator<NamedTensor> {
  for (const [done, { name }] of graph.weights.entries()) {
    progress("compiling the backbone (once)", done / graph.weights.length);
    const data = await source.read(name);
    checkNumbers(source, name, data);
    yield { name, data };
  }
}

/** An answer from weights that are no numbers would blame the prompt. */
function checkNumbers(source: BackboneSource, name: string, data: Float32Array): void {
  let at = 0;
  // Not findIndex: it takes three times as long over 10⁸ numbers.
  while (at < data.length && Number.isFinite(data[at]!)) at++;
  if (at === data.length) return;
  throw new ForewordError(
    "bad_backbone",
    `${source.name}: tensor ${name} has ${data[at]} at index ${at}, which is no finite number. Download the backbone again, or choose another.`,
  );
}

function checkTensors(source: BackboneSource, graph: Graph): void {
  for (const { name, shape } of graph.weights) {
    const found = source.tensors.get(name);
    if (found?.join() === shape.join()) continue;
    const problem = found ? `has the shape [${found.join(", ")}]` : "is missing";
    throw new ForewordError(
      "bad_backbone",
      `${source.name}: tensor ${name} ${problem}; ${source.config.architecture} needs [${shape.join(", ")}]. Download the backbone again, or choose another.`,
    );
  }
}

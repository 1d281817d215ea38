/**
 * Backbone → what a runtime loads: the step graph and one flat file of float32 weights, cached on disk by fingerprint.
 * The file is mapped, so processes and sessions share it.
 */
import { mkdir, open, readFile, rename, rm, stat, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { architectures } from "../backbone/architectures/index.ts";
import type { BackboneSource } from "../backbone/source.ts";
import { ForewordError } from "../errors.ts";
import type { Graph } from "../graph/graph.ts";
import type { WeightFile } from "../runtime/runtime.ts";

/** Part of the cache's key: raise it when the layout of the files changes. */
const COMPILER = 1;
/** Page size: what is mapped should begin on a page. */
const ALIGNMENT = 4096;

export interface CompiledBackbone {
  graph: Graph;
  weights: WeightFile;
  fingerprint: string;
}

export type Progress = (phase: string, done: number | null) => void;

type Layout = Record<string, { offset: number; bytes: number }>;

/** Compiles once; later calls find the cached file. Throws `bad_backbone` where a tensor is missing or misshapen. */
export async function compileBackbone(
  source: BackboneSource,
  cache: string,
  progress: Progress,
): Promise<CompiledBackbone> {
  const graph = architectures[source.config.architecture](source.config);
  checkTensors(source, graph);
  const fingerprint = await source.fingerprint(done => progress("checking the backbone's fingerprint", done));
  const folder = join(cache, `${fingerprint.slice(0, 32)}-fp32-v${COMPILER}`);
  const layout = (await cachedLayout(folder)) ?? (await writeWeights(source, graph, folder, progress));
  return {
    graph,
    fingerprint,
    weights: { path: join(folder, "weights.bin"), entries: new Map(Object.entries(layout)) },
  };
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

async function cachedLayout(folder: string): Promise<Layout | null> {
  try {
    const { layout, bytes } = JSON.parse(await readFile(join(folder, "layout.json"), "utf8")) as {
      layout: Layout;
      bytes: number;
    };
    return (await stat(join(folder, "weights.bin"))).size === bytes ? layout : null;
  } catch {
    return null;
  }
}

/** Writes beside the final place and renames, so that a half-written file is never taken for a whole one. */
async function writeWeights(
  source: BackboneSource,
  graph: Graph,
  folder: string,
  progress: Progress,
): Promise<Layout> {
  const scratch = `${folder}.${process.pid}.tmp`;
  await rm(scratch, { recursive: true, force: true });
  await mkdir(scratch, { recursive: true });
  const layout: Layout = {};
  let offset = 0;
  const file = await open(join(scratch, "weights.bin"), "w");
  try {
    for (const [done, { name }] of graph.weights.entries()) {
      progress("compiling the backbone (once)", done / graph.weights.length);
      const data = await source.read(name);
      await file.write(
        new Uint8Array(data.buffer, data.byteOffset, data.byteLength),
        0,
        data.byteLength,
        offset,
      );
      layout[name] = { offset, bytes: data.byteLength };
      offset = Math.ceil((offset + data.byteLength) / ALIGNMENT) * ALIGNMENT;
    }
    await file.truncate(offset);
    await file.sync();
  } finally {
    await file.close();
  }
  await writeFile(join(scratch, "layout.json"), JSON.stringify({ layout, bytes: offset }));
  await rm(folder, { recursive: true, force: true });
  await rename(scratch, folder);
  return layout;
}

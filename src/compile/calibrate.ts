/** The largest activations that linear layers read, over a few passages of text. */
import { emptyPast, type Feeds, int64, layout, wordFeeds } from "../backbone/feeds.ts";
import type { BackboneConfig } from "../backbone/source.ts";
import { GraphBuilder } from "../graph/builder.ts";
import type { Graph, Value } from "../graph/graph.ts";
import { largestAbsolute } from "../graph/quantise.ts";
import type { Runtime, WeightFile } from "../runtime/runtime.ts";

/** Tokens of a passage that are read, and of a run. */
const TOKENS = 160;
const RUN_TOKENS = 640;
/** Logits are computed for one token of so many. */
const SAMPLED = 4;

/** Largest absolute value on every input channel of each named layer, by the weight's name. */
export async function largestActivations(
  runtime: Runtime,
  { graph, weights, config }: { graph: Graph; weights: WeightFile; config: BackboneConfig },
  layers: readonly string[],
  texts: readonly (readonly number[])[],
  progress: (done: number) => void,
): Promise<Map<string, Float32Array>> {
  const session = await runtime.load(observed(graph, layers), weights);
  const largest = new Map<string, Float32Array>();
  try {
    const parts = runsOf(texts, TOKENS, Math.min(RUN_TOKENS, config.maxPositions));
    for (const [done, rows] of parts.entries()) {
      progress(done / parts.length);
      const sampled = [...rows.flat().keys()].filter(token => token % SAMPLED === 0);
      const found = await session.run(plainFeeds(rows, config, sampled), layers.map(outputOf));
      for (const name of layers) {
        const data = found[outputOf(name)]!.data as Float32Array;
        const known = largest.get(name);
        largest.set(name, known ? known.map((value, i) => Math.max(value, data[i]!)) : data.slice());
      }
    }
    return largest;
  } finally {
    await session.close();
  }
}

const outputOf = (weight: string) => `largest.${weight}`;

function observed(graph: Graph, layers: readonly string[]): Graph {
  const wanted = new Set(layers);
  const g = GraphBuilder.from(graph);
  const outputs: Record<string, Value> = {};
  for (const { op, inputs } of graph.nodes) {
    const [x, weight] = inputs;
    if (op !== "Gemm" || !wanted.has(weight!.name)) continue;
    outputs[outputOf(weight!.name)] = largestAbsolute(g, x!, 0);
  }
  return g.finish(outputs);
}

/** The first `tokens` of every text, as rows of runs of at most `most` tokens: the rotary table bounds a run. */
export function runsOf(texts: readonly (readonly number[])[], tokens: number, most: number): number[][][] {
  const length = Math.min(tokens, most);
  const count = Math.floor(most / length);
  const rows = texts.map(ids => ids.slice(0, length));
  return Array.from({ length: Math.ceil(rows.length / count) }, (_, run) =>
    rows.slice(run * count, (run + 1) * count),
  );
}

/** Rows of words alone, behind nothing; no logits are asked for, save those of the tokens in `sampled`. */
export function plainFeeds(
  rows: readonly (readonly number[])[],
  config: BackboneConfig,
  sampled: readonly number[] = [],
): Feeds {
  const shapes = rows.map(({ length }) => ({ past: 0, trunk: length, branches: [], length }));
  return {
    ...wordFeeds(rows.flat(), config.hiddenSize),
    ...layout(shapes, 0),
    ...emptyPast(config),
    scored: int64([0], []),
    candidates: int64([0], []),
    sampled: int64([sampled.length], sampled),
  };
}

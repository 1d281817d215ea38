/**
 * What one gradient costs against the forward pass that it belongs to: 8 rows of 60 positions, trained as a prefix (26
 * positions before 60 words) and as a soft prompt (20 virtual tokens before 40 words).
 *
 *     npx tsx bench/training/step.ts [--rounds 7] [--threads 2]
 */
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { architectures } from "../../src/backbone/architectures/index.ts";
import type { Segment } from "../../src/backbone/feeds.ts";
import { type Feeds, float32, int64, layout, segmentFeeds } from "../../src/backbone/feeds.ts";
import { classificationLoss } from "../../src/backbone/objective.ts";
import { pull } from "../../src/backbone/pull.ts";
import { type BackboneConfig, openBackbone } from "../../src/backbone/source.ts";
import { compileBackbone } from "../../src/compile/backbone.ts";
import { randomFrom } from "../../src/engine/sampler.ts";
import type { Graph } from "../../src/graph/graph.ts";
import { specialise } from "../../src/graph/specialise.ts";
import { createOnnxRuntime } from "../../src/runtime/onnx.ts";
import { type Method, trainingGraph } from "../../src/training/graph.ts";
import { interleave, ratios, summarise } from "../harness/samples.ts";

const ROWS = 8;
const LENGTH = 60;
const shapes = { prefix: { past: 26, virtual: 0 }, soft: { past: 0, virtual: 20 } } as const;

/** Rows of random words; a binary choice is scored after each row's last token. */
export function stepFeeds(config: BackboneConfig, method: Method): Feeds {
  const random = randomFrom(11);
  const numbers = (length: number) => Float32Array.from({ length }, () => random() - 0.5);
  const { past, virtual } = shapes[method];
  const rows = Array.from({ length: ROWS }, () => ({ past, trunk: LENGTH, branches: [], length: LENGTH }));
  const words = (count: number) =>
    Array.from({ length: count }, () => Math.floor(random() * config.vocabSize));
  const segments = rows.flatMap((): Segment[] => [
    ...(virtual > 0 ? [{ virtual: numbers(virtual * config.hiddenSize), count: virtual }] : []),
    { ids: words(LENGTH - virtual) },
  ]);
  const cache = [1, config.kvHeads, past, config.headDim];
  const pasts = Array.from({ length: config.layers }, (_, layer) =>
    ["past_key", "past_value"].map(part => [
      `${part}.${layer}`,
      float32(cache, numbers(config.kvHeads * past * config.headDim)),
    ]),
  );
  return {
    ...segmentFeeds(segments, config.hiddenSize),
    ...layout(rows, past),
    ...Object.fromEntries(pasts.flat()),
    scored: int64(
      [ROWS],
      rows.map((_, index) => (index + 1) * LENGTH - 1),
    ),
    candidates: int64([2], words(2)),
    sampled: int64([0], []),
    excluded: float32([ROWS, 2], new Float32Array(2 * ROWS)),
    gold: float32(
      [ROWS, 2],
      Float32Array.from({ length: 2 * ROWS }, (_, i) => (i % 2) / ROWS),
    ),
  };
}

async function main(): Promise<void> {
  const { values } = parseArgs({
    options: { rounds: { type: "string", default: "7" }, threads: { type: "string", default: "2" } },
  });
  const data = await mkdtemp(join(tmpdir(), "foreword-step-"));
  const mirror = process.env.FOREWORD_MIRROR;
  const path = await pull("smollm2-135m", { data, ...(mirror !== undefined && { mirror }) });
  const source = await openBackbone(path);
  const close: (() => Promise<void>)[] = [() => rm(data, { recursive: true, force: true })];
  try {
    const { weights } = await compileBackbone(source, data, () => {});
    const runtime = createOnnxRuntime({ threads: Number(values.threads) });
    const loss = classificationLoss(architectures[source.config.architecture](source.config));
    const timed = async (graph: Graph, method: Method) => {
      const session = await runtime.load(graph, weights);
      close.unshift(() => session.close());
      const feeds = stepFeeds(source.config, method);
      const outputs = graph.outputs.map(({ name }) => name);
      return async () => {
        const start = performance.now();
        await session.run(feeds, outputs);
        return performance.now() - start;
      };
    };
    const forward = specialise(loss, { "rows?": 1 });
    const samples = await interleave(Number(values.rounds), {
      "prefix, forward": await timed(forward, "prefix"),
      "prefix, gradient": await timed(trainingGraph(loss, "prefix"), "prefix"),
      "soft, forward": await timed(forward, "soft"),
      "soft, gradient": await timed(trainingGraph(loss, "soft"), "soft"),
    });
    for (const [name, times] of Object.entries(samples)) report(name, "ms", times);
    report(
      "prefix, gradient over forward",
      "times",
      ratios(samples["prefix, gradient"], samples["prefix, forward"]),
    );
    report(
      "soft, gradient over forward",
      "times",
      ratios(samples["soft, gradient"], samples["soft, forward"]),
    );
  } finally {
    for (const each of close) await each();
    await source.close();
  }
}

function report(name: string, unit: string, samples: readonly number[]): void {
  const { median, min, max } = summarise(samples);
  const digits = unit === "ms" ? 0 : 2;
  const [middle, least, most] = [median, min, max].map(value => value.toFixed(digits));
  console.log(`${name}: ${middle} ${unit} (${least} to ${most})`);
}

if (process.argv[1] === import.meta.filename) await main();

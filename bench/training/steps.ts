/**
 * What a step costs, gradient and optimiser: 8 rows, as 20 virtual tokens before 40 of input, and as a prefix of 26
 * positions before 60. PEFT's prompt tuning and prefix tuning in fp32 and bf16 beside Foreword in every precision that
 * a training request can name. One runs at a time.
 */

import { TrainSettingsRequest } from "../../src/contract/train.ts";
import { randomFrom } from "../../src/engine/sampler.ts";
import type { TrainJob } from "../../src/training/job.ts";
import { backboneFile } from "../harness/backbone.ts";
import { dataFolder } from "../harness/product.ts";
import { check } from "../harness/report.ts";
import { interleave, ratios, summarise } from "../harness/samples.ts";
import { asNdjson } from "../learning/data.ts";
import { PythonPeer } from "../peers/python.ts";
import { text } from "../serving/workload.ts";
import { ForewordRun } from "./child.ts";
import type { Part, PartOptions } from "./parts.ts";

export const ROWS = 8;
/** Trained positions, and tokens of an input. */
export const shapes = { soft: { trained: 20, input: 40 }, prefix: { trained: 26, input: 60 } } as const;
export type StepMethod = keyof typeof shapes;
const methods = Object.keys(shapes) as StepMethod[];
const dtypes = ["float32", "bfloat16"] as const;
const peerNames = { soft: "prompt", prefix: "prefix" } as const;
const ceilings = { soft: 0.6, prefix: 0.5 } as const;

/** What `precision` may be, `auto` apart. */
export const precisions = (): string[] =>
  (TrainSettingsRequest.properties.precision as unknown as { enum: string[] }).enum.filter(
    name => name !== "auto",
  );

export async function stepTimes({ rounds, threads, steps }: PartOptions): Promise<Part> {
  const data = dataFolder("training");
  const gguf = await backboneFile("training");
  const close: (() => void)[] = [];
  try {
    const measures: Record<string, () => Promise<number>> = {};
    const peer = new PythonPeer("steps.py", [gguf], threads);
    close.push(() => peer.stop());
    await peer.ask({ threads, rows: ROWS, shapes: { prompt: shapes.soft, prefix: shapes.prefix } });
    for (const method of methods) {
      for (const dtype of dtypes) {
        measures[peerName(method, dtype)] = async () => {
          const ask = { method: peerNames[method], dtype, steps: steps + 1 };
          return settled((await peer.ask<{ milliseconds: number[] }>(ask)).milliseconds);
        };
      }
      for (const precision of precisions()) {
        const run = await ForewordRun.start({
          job: stepJob(method, precision),
          backbone: gguf,
          data,
          threads,
        });
        close.push(() => run.stop());
        measures[ownName(method, precision)] = async () => settled(await run.steps(steps + 1));
      }
    }
    const samples = await interleave(rounds, measures, (round, found) =>
      console.log(round === 0 ? "warm-up, not counted:" : `round ${round} of ${rounds}:`, rounded(found)),
    );
    const checks = methods.flatMap(method =>
      precisions().map(precision => {
        const best = dtypes
          .map(dtype => samples[peerName(method, dtype)]!)
          .reduce((a, b) => a.map((value, round) => Math.min(value, b[round]!)));
        // The floor is for the fast precision; the others are shown beside it.
        return {
          fast: precision === precisions().at(-1),
          ...check(
            `a ${method} step in ${precision}, against PEFT's best`,
            "times",
            ratios(samples[ownName(method, precision)]!, best),
            { ceiling: ceilings[method] },
          ),
        };
      }),
    );
    return {
      checks: checks.filter(({ fast }) => fast).map(({ fast, ...rest }) => rest),
      figures: {
        ...Object.fromEntries(
          Object.entries(samples).map(([name, values]) => [`${name}, ms`, summarise(values)]),
        ),
        ...Object.fromEntries(checks.map(({ claim, figure }) => [claim, figure])),
      },
    };
  } finally {
    for (const each of close) each();
  }
}

const peerName = (method: StepMethod, dtype: string) => `${method} step, PEFT ${dtype}`;
const ownName = (method: StepMethod, precision: string) => `${method} step, Foreword ${precision}`;

/** The median of the steps behind the first, which warms up what the others before it left cold. */
const settled = (times: readonly number[]): number => summarise(times.slice(1)).median;

const rounded = (found: Record<string, number>) =>
  Object.fromEntries(Object.entries(found).map(([name, value]) => [name, Math.round(value)]));

/** A run that never ends by itself, over texts of one length. */
export function stepJob(method: StepMethod, precision: string): TrainJob {
  const { trained, input } = shapes[method];
  const random = randomFrom(5);
  const examples = Array.from({ length: 8 * ROWS }, (_, index) => ({
    input: text(input),
    label: index % 2 === 0 || random() < 0.1 ? "good" : "bad",
  }));
  return {
    task: { id: "step", type: "classification", labels: ["good", "bad"], description: "" },
    request: {
      method,
      batch_size: ROWS,
      steps: 100_000,
      precision: precision as NonNullable<TrainSettingsRequest["precision"]>,
      ...(method === "prefix" && { init: { text: text(trained) }, length: trained }),
    },
    template: method === "soft" ? `{{ soft(${trained}) }}{{ input }}` : "{{ input }}",
    verbalizers: null,
    base: null,
    initial: null,
    teacher: null,
    examples: asNdjson(examples),
    validation: asNdjson([{ input: text(input), label: "good" }]),
    active: null,
    checkpoint: null,
    splitSeed: 0,
    member: 0,
    checkpointSeconds: 1e9,
  };
}

/** A trainer's process stays below 3 GB, whatever the data: examples of 2,000 tokens among short ones. */
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, beforeAll, expect, test } from "vitest";
import type { Example } from "../../src/contract/dataset.ts";
import type { JobProgress } from "../../src/contract/job.ts";
import { runTrainer } from "../../src/jobs/trainer.ts";
import { readPromptFile } from "../../src/prompt/file.ts";
import { writeExamples } from "../../src/training/examples.ts";
import type { TrainJob } from "../../src/training/job.ts";
import { describeBackbone } from "../support/backbone.ts";
import { trainers } from "../support/children.ts";
import { shareCompiled } from "../support/compiled.ts";

const LIMIT = 3e9;
/** Less is not a trainer's: weights that other processes map too are counted in part. */
const MEASURED = 2e8;
/** SmolLM2 has a token for each of these words. */
const words = ["rain", "sun", "wind", "snow", "river", "night", "road", "house", "light", "stone"];
const text = (tokens: number, shift = 0) =>
  Array.from({ length: tokens }, (_, i) => words[(i * i + shift) % words.length]).join(" ");

describeBackbone("a trainer's memory", backbone => {
  let data: string;
  beforeAll(async () => {
    data = await mkdtemp(join(tmpdir(), "foreword-memory-"));
    await shareCompiled(data);
  });
  afterAll(() => rm(data, { recursive: true, force: true }));

  const bytesOf = (examples: Example[]) =>
    writeExamples({ examples, lines: examples.map((_, index) => index + 1) });

  async function trained(
    precision: "fp32" | "int8",
    task: TrainJob["task"],
    template: string,
    train: Example[],
    validation: Example[],
    method: { method: "prefix" | "soft"; length: number } = { method: "prefix", length: 128 },
  ) {
    const job: TrainJob = {
      task,
      request: { steps: 1, batch_size: train.length, ...method, max_tokens: 2048, seed: 1 },
      template,
      verbalizers: null,
      base: null,
      initial: null,
      teacher: null,
      examples: bytesOf(train),
      validation: bytesOf(validation),
      active: null,
      checkpoint: null,
      splitSeed: 0,
      member: 0,
      checkpointSeconds: 600,
    };
    const told: JobProgress[] = [];
    const before = await trainers();
    const running = runTrainer(
      {
        place: { backbone, data, runtime: "onnx", threads: 2 },
        watchBusy: () => () => {},
        log: { error: (fields, problem) => console.error(problem, fields) },
      },
      precision,
      "train",
      job,
      {
        signal: new AbortController().signal,
        progress: progress => told.push(progress),
        log: () => {},
        checkpoint: async () => {},
      },
    );
    let done = false;
    const [outcome, peak] = await Promise.all([
      running.finally(() => {
        done = true;
      }),
      peakOf(await newTrainer(before), () => done),
    ]);
    return { outcome, told, peak };
  }

  test("classification: rows of every length in one step, the longest staged", {
    timeout: 1_200_000,
  }, async () => {
    const lengths = [10, 20, 40, 60, 100, 200, 380, 1900];
    const examples = lengths.map(
      (tokens, i): Example => ({ input: text(tokens, i), label: i % 2 ? "good" : "bad" }),
    );
    const validation: Example[] = [
      { input: text(1800, 3), label: "good" },
      { input: text(30, 4), label: "bad" },
    ];
    const { outcome, told, peak } = await trained(
      "int8",
      { id: "long", type: "classification", labels: ["good", "bad"], description: "" },
      "Text: {{ input }}\nLabel:",
      examples,
      validation,
    );
    expect(told.at(-1)!.loss).toBeGreaterThan(0);
    expect(readPromptFile(outcome.file).prefix!.dims).toEqual([30, 3, 128, 64]);
    console.log(`classification: peak PSS ${Math.round(peak / 1e6)} MB`);
    expect(peak).toBeGreaterThan(MEASURED);
    expect(peak).toBeLessThan(LIMIT);
  });

  test("virtual tokens: as many as are computed once for all rows, before rows that fill a run", {
    timeout: 1_200_000,
  }, async () => {
    const { told, peak } = await trained(
      "int8",
      { id: "soft", type: "classification", labels: ["good", "bad"], description: "" },
      "Text: {{ input }}\nLabel:",
      [20, 60, 200, 300].map((tokens, i) => ({ input: text(tokens, i), label: i % 2 ? "good" : "bad" })),
      [{ input: text(30, 4), label: "bad" }],
      { method: "soft", length: 250 },
    );
    expect(told.at(-1)!.loss).toBeGreaterThan(0);
    console.log(`virtual tokens: peak PSS ${Math.round(peak / 1e6)} MB`);
    expect(peak).toBeGreaterThan(MEASURED);
    expect(peak).toBeLessThan(LIMIT);
  });

  test("generation: an output of 1,900 tokens", { timeout: 1_200_000 }, async () => {
    const { told, peak } = await trained(
      "fp32",
      { id: "long", type: "generation", labels: null, description: "" },
      "Write: {{ input }}\nText:",
      [
        { input: "weather", output: text(1900) },
        { input: "words", output: text(300) },
      ],
      [{ input: "roads", output: text(40) }],
    );
    expect(told.at(-1)!.loss).toBeGreaterThan(0);
    console.log(`generation: peak PSS ${Math.round(peak / 1e6)} MB`);
    expect(peak).toBeGreaterThan(MEASURED);
    expect(peak).toBeLessThan(LIMIT);
  });
});

async function newTrainer(before: readonly number[]): Promise<number> {
  for (;;) {
    const pid = (await trainers()).find(each => !before.includes(each));
    if (pid !== undefined) return pid;
    await sleep(10);
  }
}

/** The largest proportional set size in bytes (proc(5), smaps_rollup) until `done`. */
async function peakOf(pid: number, done: () => boolean): Promise<number> {
  let peak = 0;
  while (!done()) {
    const rollup = await readFile(`/proc/${pid}/smaps_rollup`, "utf8").catch(() => "");
    peak = Math.max(peak, Number(/^Pss:\s+(\d+) kB/m.exec(rollup)?.[1] ?? 0) * 1024);
    // The kernel walks all pages for each look, and the trainer waits for it.
    await sleep(100);
  }
  return peak;
}

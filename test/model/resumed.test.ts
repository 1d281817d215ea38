/** A run that is stopped and goes on: it keeps the donor that it chose, by what its examples tell, and its time. */
import { readFile } from "node:fs/promises";
import { deserialize, serialize } from "node:v8";
import { afterAll, beforeAll, expect, test, vi } from "vitest";
import { openCore } from "../../src/engine/open.ts";
import { readPromptFile } from "../../src/prompt/file.ts";
import type { Bench } from "../../src/training/begin.ts";
import type { TeacherAnswer } from "../../src/training/distil.ts";
import { writeExamples } from "../../src/training/examples.ts";
import type { Donor, TrainJob } from "../../src/training/job.ts";
import { train } from "../../src/training/run.ts";
import { Shelf } from "../../src/training/shelf.ts";
import { describeBackbone } from "../support/backbone.ts";
import { sharedCache } from "../support/compiled.ts";
import { reviewsOf } from "../support/reviews.ts";

const library = new URL("../../prompts/", import.meta.url);
const donorOf = async (task: string): Promise<Donor> => {
  const parameters = await readFile(new URL(`${task}/prefix.safetensors`, library));
  const content = { template: readPromptFile(parameters).template, parameters };
  return { task, version: 3, kind: "prefix", content };
};
const written = (nouns: readonly string[]) => {
  const examples = reviewsOf(nouns).map(({ input, label }) => ({
    input,
    label: label === "positive" ? "praise" : "blame",
  }));
  return writeExamples({ examples, lines: examples.map((_, index) => index + 1) });
};

describeBackbone("a run that goes on", path => {
  let bench: Bench;
  let job: TrainJob;
  beforeAll(async () => {
    const shelf = new Shelf();
    const load = { packed: false, memory: "returned" } as const;
    const limits = { cacheBytes: 2 ** 27, batchTokens: 512, queue: 4096 };
    const place = {
      backbone: path,
      cache: sharedCache(),
      runtime: "onnx",
      threads: 2,
      precision: "fp32",
    } as const;
    bench = { ...(await openCore({ ...place, ...limits, load }, shelf, () => {})), shelf };
    job = {
      task: { id: "mood", type: "classification", labels: ["praise", "blame"], description: "" },
      request: { init: "donor", steps: 1, batch_size: 2, seed: 2 },
      template: "Somebody said: {{ input }} This is",
      verbalizers: null,
      base: null,
      initial: null,
      donors: await Promise.all(["spam", "sentiment"].map(donorOf)),
      teacher: null,
      examples: written(["film"]),
      validation: 0.2,
      active: null,
      checkpoint: null,
      splitSeed: 2,
      member: 0,
      checkpointSeconds: 3600,
    };
  });
  afterAll(() => bench?.close());

  /** A run that ends at its first checkpoint, or at its end. */
  async function run(more: Partial<TrainJob>, stops: boolean, pause = async () => {}) {
    const lines: string[] = [];
    let kept: Uint8Array | null = null;
    const outcome = await train(
      bench,
      { ...job, ...more },
      {
        progress: () => {},
        log: text => lines.push(text),
        pause,
        checkpoint: async bytes => {
          kept = bytes;
          if (stops) throw new Error("stopped");
        },
      },
    ).catch((error: Error) => {
      if (error.message !== "stopped") throw error;
      return null;
    });
    return { outcome, lines, kept: kept as Uint8Array | null };
  }

  test("has the donor that it chose, and asks no example again", async () => {
    const first = await run({}, true);
    expect(first.lines).toContainEqual(
      expect.stringMatching(/^loss before training by start: sentiment\/3 /),
    );
    const { outcome, lines } = await run({ checkpoint: first.kept }, false);
    expect(lines.filter(line => line.startsWith("loss before"))).toEqual([]);
    expect(outcome!.recipe).toMatchObject({ init: { prompt: { task: "sentiment", version: 3 } } });
    expect(readPromptFile(outcome!.file).prefix!.dims[2]).toBe(64);

    const donors = job.donors!.filter(({ task }) => task !== "sentiment");
    await expect(run({ checkpoint: first.kept, donors }, false)).rejects.toThrow(/sentiment, was deleted/);
  });

  test("has its teacher's answers, a number a label, and ends in the same bits", async () => {
    // Numbers for names: an object would have them in another order than the task has.
    const labels = Array.from({ length: 40 }, (_, index) => `${140 - index}`);
    const examples = reviewsOf(["film"]).map(({ input }) => ({ input, label: labels[0]! }));
    const more = {
      task: { ...job.task, labels },
      // A step that reads all: the teacher is asked for no more than is read.
      request: { steps: 1, batch_size: examples.length, seed: 2, length: 4 },
      teacher: { template: "How good from 101 to 140? {{ input }} It is", parameters: null },
      examples: writeExamples({ examples, lines: examples.map((_, index) => index + 1) }),
    };
    const first = await run(more, true);
    expect(first.kept!.length / examples.length).toBeLessThan(8 * labels.length + 100);
    const { answers } = deserialize(first.kept!) as { answers: TeacherAnswer[] };
    for (const { given, probabilities } of answers) {
      expect(probabilities!.reduce((a, b) => a + b)).toBeCloseTo(1, 6);
      expect(labels[probabilities!.indexOf(Math.max(...probabilities!))]).toBe(given);
    }
    const [whole, resumed] = [await run(more, false), await run({ ...more, checkpoint: first.kept }, false)];
    expect(whole.lines).toContain(`the teacher answers ${examples.length} inputs`);
    expect(resumed.lines).not.toContain(`the teacher answers ${examples.length} inputs`);
    expect(readPromptFile(resumed.outcome!.file).prefix).toEqual(readPromptFile(whole.outcome!.file).prefix);
  });

  test("of another release begins anew", async () => {
    const more = { request: { steps: 2, batch_size: 2, seed: 2 }, checkpointSeconds: 0 };
    const first = await run(more, true);
    const older = serialize({ ...(deserialize(first.kept!) as object), format: 1 });
    const { lines } = await run({ ...more, checkpoint: older }, false);
    expect(lines.filter(line => line.startsWith("going on"))).toEqual([]);
  });

  test("has taken the time of all its parts", async () => {
    const more = { request: { steps: 2, batch_size: 2, seed: 2 }, checkpointSeconds: 0 };
    vi.useFakeTimers({ toFake: ["Date"] });
    try {
      const first = await run(more, true, async () => void vi.setSystemTime(Date.now() + 3_600_000));
      expect(first.outcome).toBeNull();
      const { outcome, lines } = await run({ ...more, checkpoint: first.kept }, false);
      expect(lines).toContain("going on from step 1");
      const { seconds } = outcome!.metrics as { seconds: number };
      expect(seconds).toBeGreaterThanOrEqual(3600);
    } finally {
      vi.useRealTimers();
    }
  });
});

import { describe, expect, it } from "vitest";
import { quantile } from "../../../bench/harness/samples.ts";
import { arrivals, openLoop } from "../../../bench/training/latency.ts";
import { precisions, stepJob } from "../../../bench/training/steps.ts";
import { asked, limitOf, runNames, summary, type TimeToRun } from "../../../bench/training/time-to.ts";
import { randomFrom } from "../../../src/engine/sampler.ts";
import { parseExamples } from "../../../src/training/examples.ts";

describe("open loop", () => {
  it("has arrivals of a Poisson process: as many as the rate says, gaps as spread out as they are long", () => {
    const times = arrivals(50, 200, randomFrom(3));
    expect(times.length).toBeGreaterThan(9_600);
    expect(times.length).toBeLessThan(10_400);
    const gaps = times.map((at, index) => at - (times[index - 1] ?? 0));
    const mean = gaps.reduce((sum, gap) => sum + gap, 0) / gaps.length;
    const deviation = Math.sqrt(gaps.reduce((sum, gap) => sum + (gap - mean) ** 2, 0) / gaps.length);
    expect(deviation / mean).toBeGreaterThan(0.95);
    expect(deviation / mean).toBeLessThan(1.05);
    expect(arrivals(50, 200, randomFrom(3))).toEqual(times);
  });

  it("counts a wait from when the request was due, and asks without waiting for answers", async () => {
    let under = 0;
    let most = 0;
    const waits = await openLoop(100, 0.2, randomFrom(1), async () => {
      most = Math.max(most, ++under);
      await new Promise(resolve => setTimeout(resolve, 100));
      under--;
    });
    expect(most).toBeGreaterThan(3);
    for (const wait of waits) expect(wait).toBeGreaterThan(95);
  });

  it("takes quantiles that were seen", () => {
    const values = Array.from({ length: 200 }, (_, index) => 200 - index);
    expect(quantile(values, 0.99)).toBe(198);
    expect(quantile(values, 0.5)).toBe(100);
    expect(quantile([7], 0.99)).toBe(7);
  });
});

describe("steps", () => {
  it("are measured in every precision that a request can name", () => {
    expect(precisions()[0]).toBe("fp32");
    expect(precisions()).not.toContain("auto");
  });

  it("have inputs of one length in words", () => {
    const { examples, request } = stepJob("soft", "fp32");
    expect(request).toMatchObject({ method: "soft", precision: "fp32", batch_size: 8 });
    for (const { input } of parseExamples(examples).examples)
      expect((input as string).split(" ")).toHaveLength(40);
  });
});

describe("the time to an accuracy", () => {
  const run = (name: string, seconds: number, reached = true): TimeToRun => ({
    name,
    date: "2026-01-01T00:00:00.000Z",
    reached,
    seconds,
    looks: [],
  });

  it("has runs that filters pick", () => {
    expect(runNames().filter(name => asked(name, ["ptuning"]))).toEqual([
      "ptuning/0.0003",
      "ptuning/0.001",
      "ptuning/0.003",
      "ptuning/0.01",
    ]);
    expect(runNames().filter(name => asked(name, ["prompt/0.01"]))).toEqual(["prompt/0.01"]);
    expect(runNames().filter(name => asked(name, []))).toHaveLength(16);
  });

  const runs = [
    run("foreword/60", 60, false),
    run("foreword/120", 120),
    run("prefix/0.01", 700, false),
    run("prompt/0.01", 1200),
  ];

  it("compares the best that got there on both sides", () => {
    const { checks } = summary(runs);
    expect(checks[0]!.claim).toContain("2 of 12");
    expect(checks[0]!.figure.median).toBeCloseTo(0.1, 10);
    expect(summary(runs.slice(0, 2)).checks).toEqual([]);
    expect(summary(runs.slice(2)).checks).toEqual([]);
  });

  it("has an upper bound where none of PEFT's got there", () => {
    const [only] = summary(runs.slice(0, 3)).checks;
    expect(only!.claim).toContain("not there yet");
    expect(only!.figure.median).toBeCloseTo(120 / 700, 10);
  });

  it("ends a run once it has lost, and starts none that would say nothing new", () => {
    expect(limitOf("foreword/60", [], null)).toBe(Number.POSITIVE_INFINITY);
    expect(limitOf("foreword/240", runs, null)).toBe(0);
    expect(limitOf("prompt/0.03", runs.slice(0, 3), null)).toBe(600);
    expect(limitOf("prompt/0.03", runs.slice(0, 3), 60)).toBe(3600);
    expect(limitOf("prompt/0.03", runs, 60)).toBe(1200);
    expect(limitOf("prompt/0.01", runs, 60)).toBe(0);
    expect(limitOf("prefix/0.01", runs, null)).toBe(0);
    expect(limitOf("prefix/0.01", runs, 60)).toBe(1200);
  });
});

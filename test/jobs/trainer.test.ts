/** A trainer's process that is gone while the server still speaks to it. */
import { readFileSync } from "node:fs";
import { expect, onTestFinished, test, vi } from "vitest";
import { Interrupted } from "../../src/jobs/jobs.ts";
import { runTrainer } from "../../src/jobs/trainer.ts";
import type { TrainJob } from "../../src/training/job.ts";
import { trainers } from "../support/children.ts";

/** Runs one that has not come to its job yet; `toggle` is what a request tells it. */
function begin() {
  const watching = new Set<(busy: boolean) => void>();
  const outcome = runTrainer(
    {
      place: { backbone: "/nowhere", data: "/nowhere", runtime: "onnx", threads: 1 },
      watchBusy: listener => {
        watching.add(listener);
        listener(false);
        return () => watching.delete(listener);
      },
      log: { error: () => {} },
    },
    "fp32",
    "train",
    {} as TrainJob,
    {
      signal: new AbortController().signal,
      progress: () => {},
      log: () => {},
      checkpoint: async () => {},
    },
  );
  const toggle = () => {
    for (const listener of watching) for (const busy of [true, false, true]) listener(busy);
  };
  return { watching, toggle, settled: outcome.catch((error: Error) => error) };
}

/** The kernel has closed its end of the channel; that it exited is not read yet. */
function waitUntilDead(pid: number): void {
  const state = () => /\) (\S)/.exec(readFileSync(`/proc/${pid}/stat`, "utf8"))?.[1];
  for (const end = Date.now() + 10_000; state() !== "Z"; )
    if (Date.now() > end) throw new Error("it does not die");
}

test("what is said to a trainer that was killed is lost, and its end alone is told", async () => {
  const { watching, toggle, settled } = begin();
  const pid = await vi.waitFor(async () => {
    const [found] = await trainers();
    expect(found).toBeDefined();
    return found!;
  });
  process.kill(pid, "SIGKILL");
  waitUntilDead(pid);
  toggle();
  const error = await settled;
  expect(error).toBeInstanceOf(Interrupted);
  expect((error as Error).message).toContain("SIGKILL");
  expect(watching.size).toBe(0);
});

test("a trainer that can't be started fails its job, and nothing else", async () => {
  const { execPath } = process;
  onTestFinished(() => {
    process.execPath = execPath;
  });
  process.execPath = "/nowhere/node";
  const { watching, toggle, settled } = begin();
  toggle();
  expect(await settled).toMatchObject({ code: "ENOENT", syscall: expect.stringContaining("spawn") });
  expect(watching.size).toBe(0);
});

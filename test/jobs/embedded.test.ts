import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import type { Engine } from "../../src/engine/engine.ts";
import { openEmbeddedJobs } from "../../src/jobs/embedded.ts";
import { Interrupted, type Jobs, type Runner } from "../../src/jobs/jobs.ts";
import { createRunner } from "../../src/jobs/runner.ts";
import type { TrainRunnerOptions } from "../../src/jobs/train-work.ts";
import { openLmdbRegistry } from "../../src/registry/lmdb.ts";
import type { Registry } from "../../src/registry/registry.ts";
import { jobsContract } from "./contract.ts";

jobsContract("the embedded queue", (registry, runner, concurrency) =>
  openEmbeddedJobs({ registry, runner, concurrency, log: { error: () => {} } }),
);

describe("the embedded queue", () => {
  let folder: string;
  let registry: Registry;
  let jobs: Jobs;
  beforeEach(async () => {
    folder = await mkdtemp(join(tmpdir(), "foreword-embedded-"));
    registry = await openLmdbRegistry(folder);
  });
  afterEach(async () => {
    await jobs.close();
    await registry.close();
    await rm(folder, { recursive: true, force: true });
  });
  const request = { task: "t", kind: "train" as const, request: {}, backbone: "f", blobs: [] };

  test("hears a cancel that comes while a job's process is found dead", async () => {
    let starts = 0;
    let cancel: Promise<unknown> | null = null;
    const runner: Runner = async (_, { log }) => {
      starts++;
      log("a line that is still to be written");
      throw new Interrupted("killed");
    };
    const error = ({ job }: { job?: string }) => {
      cancel ??= jobs.cancel(job!);
    };
    jobs = await openEmbeddedJobs({ registry, runner, log: { error } });
    const { id } = await jobs.submit(request);
    await vi.waitFor(async () => expect((await registry.getJob(id)).ended_at).not.toBeNull());
    await cancel;
    expect((await registry.getJob(id)).state).toBe("cancelled");
    expect(starts).toBe(1);
  });

  describe("without a backbone", () => {
    const open = async (ready: () => Promise<void>) => {
      const runner = createRunner({ registry, engine: { ready } as Engine } as TrainRunnerOptions);
      jobs = await openEmbeddedJobs({ registry, runner, log: { error: () => {} } });
      const { id } = await jobs.submit(request);
      const says = (line: string) =>
        vi.waitFor(async () => {
          const { state, log } = await registry.getJob(id);
          expect(state).toBe("running");
          expect(log.map(({ text }) => text).join("\n")).toContain(line);
        }, 10_000);
      return { id, says };
    };

    test("jobs wait for a server that has one, and have lost nothing", async () => {
      const { id, says } = await open(() => Promise.reject(new Error("there is no such file")));
      await says("there is no such file");
      await jobs.close();
      expect(await registry.getJob(id)).toMatchObject({ attempts: 0, ended_at: null });
    });

    test("a job is cancelled while one is loaded", async () => {
      const { id, says } = await open(() => new Promise(() => {}));
      await says("");
      expect((await jobs.cancel(id)).state).toBe("cancelled");
    });
  });
});

import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import type { Engine, EngineState } from "../../src/engine/engine.ts";
import { openEmbeddedJobs } from "../../src/jobs/embedded.ts";
import { Interrupted, type Jobs, type Runner } from "../../src/jobs/jobs.ts";
import { createRunner } from "../../src/jobs/runner.ts";
import type { TrainRunnerOptions } from "../../src/jobs/train-work.ts";
import { openLmdbRegistry } from "../../src/registry/lmdb.ts";
import type { Registry } from "../../src/registry/registry.ts";
import { newJob } from "../registry/records.ts";
import { emptyDisk, fillDisk, fillsOwnDisk } from "../support/full-disk.ts";
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
  const kind = "train" as const;
  const request = { task: "t", born: "then", kind, request: {}, backbone: "f", blobs: [] };

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

  /** Runs until it is told to stop, or to fail. */
  const hanging = async () => {
    const started: { id: string; signal: AbortSignal; fail: (error: Error) => void }[] = [];
    const runner: Runner = ({ id }, { signal }) =>
      new Promise((_, reject) => {
        started.push({ id, signal, fail: reject });
        signal.addEventListener("abort", () => reject(new Error("stopped")));
      });
    jobs = await openEmbeddedJobs({ registry, runner, log: { error: () => {} } });
    const begun = (count: number) =>
      vi.waitFor(() => {
        expect(started.length).toBe(count);
        return started[count - 1]!;
      }, 5000);
    return { started, begun };
  };
  const ends = (id: string) =>
    vi.waitFor(async () => expect((await registry.getJob(id)).state).toBe("cancelled"), 12_000);

  test("cancels an open job that it does not know of", async () => {
    await hanging();
    await registry.putJob(newJob("job-unknown"));
    expect((await jobs.cancel("job-unknown")).state).toBe("cancelled");
    await registry.putJob(newJob("job-other", "u"));
    await jobs.cancelTask("u");
    expect(await registry.openJobs()).toEqual([]);
  });

  test("starts a job again whose attempt could not end it", async () => {
    const { begun } = await hanging();
    const { id } = await jobs.submit(request);
    const { fail } = await begun(1);
    // The record is another's: the attempt's end is refused, and it stays open.
    await registry.updateJob(id, { holder: "another" });
    fail(new Error("a fault"));
    expect((await begun(2)).id).toBe(id);
    expect((await jobs.cancel(id)).state).toBe("cancelled");
  });

  test("a job that is cancelled at any moment of its beginning ends cancelled, and does not run on", async () => {
    const { started } = await hanging();
    const startOf = (id: string) => vi.waitFor(() => expect(started.at(-1)?.id).toBe(id), 5000);
    for (let ms = 0; ms < 10; ms++) {
      const [first, second] = [await jobs.submit(request), await jobs.submit(request)];
      await startOf(first.id);
      started.at(-1)!.fail(new Error("a fault"));
      await new Promise(resolve => setTimeout(resolve, ms));
      expect((await jobs.cancel(second.id)).state).toBe("cancelled");
      const begun = started.filter(({ id }) => id === second.id);
      await vi.waitFor(() => expect(begun.every(({ signal }) => signal.aborted)).toBe(true));
      expect(await registry.getJob(first.id)).toMatchObject({ state: "failed" });
    }
    const last = await jobs.submit(request);
    await startOf(last.id);
    expect(await registry.openJobs()).toMatchObject([{ id: last.id }]);
  });

  describe("on a disk that is full", () => {
    fillsOwnDisk();

    test("who cancels a running job hears soon that it is stopped, and its record says so later", async () => {
      const { begun } = await hanging();
      const { id } = await jobs.submit(request);
      const { signal } = await begun(1);
      await fillDisk(process.pid, 1);
      const before = Date.now();
      const refusal = { code: "registry_unavailable", message: expect.stringContaining("is stopped") };
      await expect(jobs.cancel(id)).rejects.toMatchObject(refusal);
      expect(Date.now() - before).toBeLessThan(10_000);
      expect(signal.aborted).toBe(true);
      await emptyDisk(process.pid);
      await ends(id);
    });

    test("so does who cancels all of a task, the running one behind one that can't be cancelled", async () => {
      const { started, begun } = await hanging();
      const [running, waiting] = [await jobs.submit(request), await jobs.submit(request)];
      const { signal } = await begun(1);
      await fillDisk(process.pid, 1);
      await expect(jobs.cancelTask("t")).rejects.toMatchObject({ code: "registry_unavailable" });
      expect(signal.aborted).toBe(true);
      await emptyDisk(process.pid);
      await ends(running.id);
      expect((await begun(2)).id).toBe(waiting.id);
      await jobs.cancelTask("t");
      await ends(waiting.id);
      expect(started.length).toBe(2);
    });
  });

  describe("without a backbone", () => {
    const loading: EngineState = { status: "loading", phase: "starting", progress: null };
    const open = async (ready: () => Promise<void>, state = loading) => {
      const engine = { ready, state: () => state } as Engine;
      const runner = createRunner({ registry, engine } as TrainRunnerOptions);
      jobs = await openEmbeddedJobs({ registry, runner, log: { error: () => {} } });
      const { id } = await jobs.submit(request);
      const says = (line: string) =>
        vi.waitFor(async () => {
          const { state, log } = await registry.getJob(id);
          expect(state).toBe("queued");
          expect(log.map(({ text }) => text).join("\n")).toContain(line);
        }, 10_000);
      return { id, says };
    };

    test("jobs wait while it is fetched again, and say why", async () => {
      const { says } = await open(() => new Promise(() => {}), {
        ...loading,
        status: "failed",
        error: "no hub",
      });
      await says("waits for a backbone: no hub");
    });

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

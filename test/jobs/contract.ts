/**
 * What every queue promises (src/jobs/jobs.ts). The runner here writes down what it does in memory that outlives the
 * queue, as a trainer's checkpoint does.
 */
import { mkdtemp, readdir, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, onTestFinished, test, vi } from "vitest";
import type { JobResult } from "../../src/contract/job.ts";
import { ForewordError } from "../../src/errors.ts";
import { Interrupted, type JobControl, type Jobs, type Runner } from "../../src/jobs/jobs.ts";
import { openLmdbRegistry } from "../../src/registry/lmdb.ts";
import type { JobRecord, Registry } from "../../src/registry/registry.ts";
import { inTurn } from "../registry/records.ts";
import { emptyDisk, fillDisk, fillsOwnDisk } from "../support/full-disk.ts";

export type OpenQueue = (registry: Registry, runner: Runner, concurrency: number) => Promise<Jobs>;

interface Step {
  job: JobRecord;
  control: JobControl;
  finish: (result?: object) => void;
  fail: (error: Error) => void;
}

/** `openRegistry` opens another one than an LMDB in the folder, which then knows no full disk. */
export function jobsContract(
  name: string,
  openQueue: OpenQueue,
  openRegistry?: () => Promise<Registry>,
): void {
  describe(name, () => {
    let folder: string;
    let registry: Registry;
    let jobs: Jobs;
    let started: Step[];

    /** A job that does what the test tells it to, and stops when it is told to stop. */
    const runner: Runner = (job, control) =>
      new Promise((resolve, reject) => {
        started.push({ job, control, finish: (result = {}) => resolve(result as JobResult), fail: reject });
        control.signal.addEventListener("abort", () => reject(new Error("stopped")));
      });
    const open = async (concurrency = 1) => {
      jobs = await openQueue(registry, runner, concurrency);
    };
    const submit = async (task: string, request: object = {}) =>
      (await jobs.submit({ task, born: "then", kind: "train", request, backbone: "f", blobs: [] })).id;
    const start = async (count: number): Promise<Step> => {
      await vi.waitFor(() => expect(started.length).toBe(count), { timeout: 5000, interval: 5 });
      return started[count - 1]!;
    };
    const state = async (id: string) => (await registry.getJob(id)).state;
    const becomes = (id: string, wanted: string) =>
      vi.waitFor(async () => expect(await state(id)).toBe(wanted), { timeout: 5000, interval: 5 });

    beforeEach(async () => {
      folder = await mkdtemp(join(tmpdir(), "foreword-jobs-"));
      registry = await (openRegistry?.() ?? openLmdbRegistry(folder));
      started = [];
      await open();
    });
    afterEach(async () => {
      await jobs.close();
      await registry.close();
      await rm(folder, { recursive: true, force: true });
    });

    test("a submission of the same name is the job that was made, and runs once", async () => {
      const kind = "train" as const;
      const named = { task: "t", born: "then", kind, request: {}, backbone: "f", blobs: [] };
      const [first, running, waiting] = [
        await submit("t"),
        await jobs.submit({ ...named, commit: "a".repeat(64) }),
        await jobs.submit({ ...named, commit: "a".repeat(64) }),
      ];
      expect(waiting.id).toBe(running.id);
      (await start(1)).finish();
      await becomes(first, "succeeded");
      expect((await start(2)).job.id).toBe(running.id);
      expect((await jobs.submit({ ...named, commit: "a".repeat(64) })).id).toBe(running.id);
      started[1]!.finish();
      await becomes(running.id, "succeeded");
      const last = await submit("t");
      expect((await start(3)).job.id).toBe(last);
    });

    test("a job whose record is gone, with all others, stops; a later one runs", async () => {
      await submit("t");
      const { control } = await start(1);
      await registry.replaceRows(inTurn([]));
      control.log("a line");
      await vi.waitFor(() => expect(control.signal.aborted).toBe(true), { timeout: 5000, interval: 5 });
      const later = await submit("u");
      (await start(2)).finish();
      await becomes(later, "succeeded");
      expect(await registry.openJobs()).toEqual([]);
    });

    test("a job is queued, runs, succeeds, and its record tells each", async () => {
      const id = await submit("t", { steps: 7 });
      const { job, control, finish } = await start(1);
      expect(job).toMatchObject({ id, task: "t", request: { steps: 7 }, state: "running" });
      const progress = {
        step: 3,
        steps: 7,
        loss: 0.5,
        examples_per_second: 1,
        eta_seconds: 4,
        validation: null,
      };
      control.progress({ ...progress, step: 2 });
      control.progress(progress);
      control.log("half way");
      finish({ versions: [2] });
      await becomes(id, "succeeded");
      const record = await registry.getJob(id);
      expect(record).toMatchObject({ result: { versions: [2] }, error: null, progress });
      expect(record.log.map(line => line.text)).toEqual(["half way"]);
      expect(Date.parse(record.ended_at!)).toBeGreaterThanOrEqual(Date.parse(record.started_at!));
    });

    test("progress is written while the job runs", async () => {
      const id = await submit("t");
      const { control, finish } = await start(1);
      const at = (step: number) => ({
        step,
        steps: 9,
        loss: null,
        examples_per_second: null,
        eta_seconds: null,
        validation: null,
      });
      control.progress(at(1));
      await vi.waitFor(async () => expect((await registry.getJob(id)).progress?.step).toBe(1), {
        timeout: 5000,
      });
      finish();
      await becomes(id, "succeeded");
    });

    test("a queue that is closed and opened again and again fails no job", async () => {
      const id = await submit("t");
      for (let times = 1; times <= 5; times++) {
        await start(times);
        await jobs.close();
        await open();
      }
      (await start(6)).finish({ versions: [2] });
      await becomes(id, "succeeded");
    });

    test("a failure leaves its problem; the next job runs", async () => {
      const [bad, good] = [await submit("t"), await submit("t")];
      const first = await start(1);
      first.fail(new ForewordError("bad_dataset", "Line 3: no label.", { line: 3 }));
      await becomes(bad, "failed");
      expect((await registry.getJob(bad)).error).toMatchObject({ code: "bad_dataset", line: 3, status: 422 });
      (await start(2)).finish();
      await becomes(good, "succeeded");
    });

    test("a fault of ours is told as internal, without its details", async () => {
      const id = await submit("t");
      (await start(1)).fail(new Error("secret"));
      await becomes(id, "failed");
      const { error } = await registry.getJob(id);
      expect(error?.code).toBe("internal");
      expect(JSON.stringify(error)).not.toContain("secret");
    });

    test("jobs of one task run one after another, in order; those of others meanwhile", async () => {
      await jobs.close();
      await open(3);
      const ids = [await submit("a"), await submit("a"), await submit("b")];
      await start(2);
      expect(started.map(({ job }) => job.id)).toEqual([ids[0], ids[2]]);
      expect(await state(ids[1]!)).toBe("queued");
      started[0]!.finish();
      expect((await start(3)).job.id).toBe(ids[1]);
    });

    test("a queued job is cancelled before it starts, a running one while it runs, an ended one never", async () => {
      const [running, queued] = [await submit("t"), await submit("t")];
      const { control } = await start(1);
      expect((await jobs.cancel(queued)).state).toBe("cancelled");
      expect(control.signal.aborted).toBe(false);
      expect((await jobs.cancel(running)).state).toBe("cancelled");
      expect(control.signal.aborted).toBe(true);
      expect((await jobs.cancel(running)).state).toBe("cancelled");
      const last = await submit("t");
      (await start(2)).finish();
      await becomes(last, "succeeded");
      expect((await jobs.cancel(last)).state).toBe("succeeded");
      await expect(jobs.cancel("job-none")).rejects.toMatchObject({ code: "job_not_found" });
    });

    test("what a task still has is cancelled together; other tasks' jobs are not", async () => {
      const ids = [await submit("a"), await submit("a"), await submit("b")];
      await start(1);
      await jobs.cancelTask("a");
      expect(await Promise.all(ids.slice(0, 2).map(state))).toEqual(["cancelled", "cancelled"]);
      (await start(2)).finish();
      await becomes(ids[2]!, "succeeded");
    });

    test("a queue that closes leaves its jobs to the next one, which goes on from the checkpoint", async () => {
      const [first, second] = [await submit("t"), await submit("t")];
      const { control } = await start(1);
      await control.checkpoint(Buffer.from("step 1"));
      await control.checkpoint(Buffer.from("step 2"));
      await jobs.close();
      expect(await state(first)).toBe("running");
      await open();
      const again = await start(2);
      expect(again.job.id).toBe(first);
      expect(Buffer.from(await registry.getBlob(again.job.checkpoint!)).toString()).toBe("step 2");
      expect(again.job.blobs).toEqual([again.job.checkpoint]);
      again.finish();
      expect((await start(3)).job.id).toBe(second);
    });

    test("a job whose process ends is started again, and before others of its task", async () => {
      const [id] = [await submit("t"), await submit("t")];
      const { control, fail } = await start(1);
      await control.checkpoint(Buffer.from("saved"));
      fail(new Interrupted("killed"));
      const again = await start(2);
      expect(again.job).toMatchObject({ id, checkpoint: expect.stringMatching(/^[0-9a-f]{64}$/) });
    });

    test.each(["succeeded", "cancelled"])(
      "a job that runs keeps its last two checkpoints, one that has %s none, and neither waits for a sweep",
      async how => {
        const data = await registry.putBlob(Buffer.from("examples"));
        const { id } = await jobs.submit({
          task: "t",
          born: "then",
          kind: "train",
          request: {},
          backbone: "f",
          blobs: [data],
        });
        const { control, finish } = await start(1);
        const saved: string[] = [];
        const kept = async (): Promise<number[]> => {
          const there = await Promise.all(
            saved.map(blob => registry.getBlob(blob).then(Boolean, () => false)),
          );
          return there.flatMap((each, at) => (each ? [at + 1] : []));
        };
        for (const step of [1, 2, 3, 3, 4]) {
          await control.checkpoint(Buffer.from(`step ${step}`));
          const { checkpoint, blobs } = await registry.getJob(id);
          if (step !== saved.length) saved.push(checkpoint!);
          expect(blobs).toEqual([data, checkpoint]);
          expect(await kept()).toEqual([step - 1, step].filter(Boolean));
        }
        if (how === "succeeded") finish();
        else await jobs.cancel(id);
        await becomes(id, how);
        await vi.waitFor(async () => expect(await kept()).toEqual([]), { timeout: 5000, interval: 5 });
      },
    );

    test("a job that waits with a checkpoint and is cancelled keeps none", async () => {
      const running = await submit("u");
      const checkpoint = await registry.putBlob(Buffer.from("saved"));
      const waiting = await submit("u");
      await registry.updateJob(waiting, { checkpoint, blobs: [checkpoint] });
      await jobs.cancel(waiting);
      await expect(registry.getBlob(checkpoint)).rejects.toMatchObject({ code: "registry_unavailable" });
      expect(await state(running)).toBe("running");
    });

    test("a checkpoint that is being written when its job is cancelled changes nothing and does not stay", async () => {
      const id = await submit("t");
      const { control } = await start(1);
      const { putBlob } = registry;
      let stored = (_: string) => {};
      const blob = new Promise<string>(resolve => {
        stored = resolve;
      });
      let go = () => {};
      registry.putBlob = async bytes => {
        stored(await putBlob(bytes));
        await new Promise<void>(resolve => {
          go = resolve;
        });
        return blob;
      };
      const saving = control.checkpoint(Buffer.from("late")).catch(() => {});
      const sha256 = await blob;
      await jobs.cancel(id);
      const ended = await registry.getJob(id);
      go();
      await saving;
      expect(await registry.getJob(id)).toEqual(ended);
      await expect(registry.getBlob(sha256)).rejects.toMatchObject({ code: "registry_unavailable" });
    });

    test("a checkpoint that is being written when its process ends does not stop the next start, and is not kept", async () => {
      const id = await submit("t");
      const { control, fail } = await start(1);
      const { putBlob } = registry;
      let go = () => {};
      const written = new Promise<string>(resolve => {
        registry.putBlob = async bytes => {
          registry.putBlob = putBlob;
          const sha256 = await putBlob(bytes);
          await new Promise<void>(told => {
            go = told;
            resolve(sha256);
          });
          return sha256;
        };
      });
      const saving = control.checkpoint(Buffer.from("late"));
      const sha256 = await written;
      fail(new Interrupted("killed"));
      const again = await start(2);
      control.log("late too");
      go();
      await saving;
      await expect(registry.getBlob(sha256)).rejects.toMatchObject({ code: "registry_unavailable" });
      await again.control.checkpoint(Buffer.from("its own"));
      expect(again.control.signal.aborted).toBe(false);
      again.finish();
      await becomes(id, "succeeded");
      expect((await registry.getJob(id)).log).toEqual([]);
    });

    test("what a runner waits for before its jobs is no start of theirs", async () => {
      await jobs.close();
      let load = () => {};
      runner.ready = ({ signal }) =>
        new Promise((resolve, reject) => {
          load = resolve;
          if (signal.aborted) reject(signal.reason);
          signal.addEventListener("abort", () => reject(signal.reason));
        });
      onTestFinished(() => {
        delete runner.ready;
      });
      await open();
      const id = await submit("t");
      for (let time = 1; time <= 4; time++) {
        await jobs.close();
        await open();
      }
      expect(await registry.getJob(id)).toMatchObject({ state: "queued", attempts: 0, started_at: null });
      await vi.waitFor(() => {
        load();
        expect(started.length).toBe(1);
      }, 5000);
      expect(started[0]!.job).toMatchObject({ state: "running", attempts: 1 });
    });

    test("a job whose process ends again and again without a checkpoint fails, and says so", async () => {
      const id = await submit("t");
      for (let attempt = 1; attempt <= 3; attempt++) (await start(attempt)).fail(new Interrupted("killed"));
      await becomes(id, "failed");
      expect((await registry.getJob(id)).error?.detail).toContain("3 times");
      expect(started.length).toBe(3);
    });

    if (openRegistry) return;
    describe("on a disk that is full for a while", () => {
      fillsOwnDisk();

      test("a checkpoint that can't be written costs itself alone: the one before stays, and the job goes on", async () => {
        const id = await submit("t");
        const { control, finish } = await start(1);
        await control.checkpoint(Buffer.from("first"));
        const { checkpoint } = await registry.getJob(id);
        await fillDisk(process.pid, 500_000);
        await control.checkpoint(Buffer.alloc(1_000_000, 1));
        expect((await registry.getJob(id)).checkpoint).toBe(checkpoint);
        await emptyDisk(process.pid);
        await control.checkpoint(Buffer.from("third"));
        const third = (await registry.getJob(id)).checkpoint!;
        expect(Buffer.from(await registry.getBlob(third)).toString()).toBe("third");
        finish();
        await becomes(id, "succeeded");
        const record = await registry.getJob(id);
        expect(record.log.map(line => line.text)).toEqual([
          expect.stringMatching(/^a checkpoint was not saved; the one before stays\./),
        ]);
        const files = await readdir(join(folder, "blobs"), { recursive: true, withFileTypes: true });
        const names = files.filter(file => file.isFile()).map(file => file.name);
        expect(
          names.every(name => /^[0-9a-f]{64}$/.test(name)),
          names.join(),
        ).toBe(true);
      });

      test("an end is written as soon as there is room, and the next job runs", async () => {
        const [first, second] = [await submit("t"), await submit("t")];
        const { finish } = await start(1);
        await fillDisk(process.pid, 1);
        finish({ versions: [7] });
        await new Promise(resolve => setTimeout(resolve, 700));
        expect(await state(first)).toBe("running");
        await emptyDisk(process.pid);
        await becomes(first, "succeeded");
        expect((await registry.getJob(first)).result).toEqual({ versions: [7] });
        (await start(2)).finish();
        await becomes(second, "succeeded");
      });

      test("a job whose process ends while its last lines can't be written is started again when there is room", async () => {
        const [first, second] = [await submit("t"), await submit("t")];
        const { control, fail } = await start(1);
        await control.checkpoint(Buffer.from("saved"));
        const { checkpoint } = await registry.getJob(first);
        control.log("a line that waits");
        await fillDisk(process.pid, 1);
        fail(new Interrupted("killed"));
        await new Promise(resolve => setTimeout(resolve, 700));
        expect(started.length).toBe(1);
        await emptyDisk(process.pid);
        const again = await start(2);
        expect(again.job).toMatchObject({ id: first, checkpoint });
        again.finish();
        await becomes(first, "succeeded");
        (await start(3)).finish();
        await becomes(second, "succeeded");
      });

      test("a waiting job whose cancel can't be written keeps its place, and is cancelled later", async () => {
        const [running, kept, given] = [await submit("t"), await submit("t"), await submit("t")];
        await start(1);
        await fillDisk(process.pid, 1);
        for (const id of [kept, given])
          await expect(jobs.cancel(id)).rejects.toMatchObject({ code: "registry_unavailable" });
        await emptyDisk(process.pid);
        expect((await jobs.cancel(given)).state).toBe("cancelled");
        started[0]!.finish();
        await becomes(running, "succeeded");
        const next = await start(2);
        expect(next.job.id).toBe(kept);
        next.finish();
        await becomes(kept, "succeeded");
        expect(await state(given)).toBe("cancelled");
        expect(await registry.openJobs()).toEqual([]);
      });
    });
  });
}

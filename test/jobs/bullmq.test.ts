import { spawn } from "node:child_process";
import { fileURLToPath } from "node:url";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test, vi } from "vitest";
import type { Engine } from "../../src/engine/engine.ts";
import { openBullJobs } from "../../src/jobs/bullmq.ts";
import type { JobControl, Jobs, Runner } from "../../src/jobs/jobs.ts";
import { createRunner } from "../../src/jobs/runner.ts";
import { openRedisRegistry } from "../../src/registry/redis.ts";
import { jobClients } from "../../src/registry/redis-client.ts";
import type { JobRecord, Registry } from "../../src/registry/registry.ts";
import { hard, newTask } from "../registry/records.ts";
import { describeRedis } from "../support/redis.ts";
import { RedisCluster, RedisServer } from "../support/redis-server.ts";
import { jobsContract, type OpenQueue } from "./contract.ts";

const log = { error: () => {} };

describeRedis("BullMQ", () => {
  let redis: RedisServer;
  beforeAll(async () => {
    redis = await RedisServer.start(["--appendonly", "yes", "--appendfsync", "always"]);
  });
  afterAll(() => redis.remove());
  beforeEach(() => redis.admin.flushall());

  const open: OpenQueue = (registry, runner, concurrency) =>
    openBullJobs({ registry, connect: jobClients(redis.url, log), runner, concurrency, log });

  jobsContract("the queue on BullMQ, records in LMDB", open);
  jobsContract("the queue on BullMQ, records in Redis", open, () => openRedisRegistry(redis.url));

  describe("several processes", () => {
    let registry: Registry;
    let opened: { close(): Promise<void> }[];
    let started: { job: JobRecord; control: JobControl; finish: () => void }[];
    beforeEach(async () => {
      registry = await openRedisRegistry(redis.url);
      opened = [registry];
      started = [];
    });
    afterEach(async () => {
      for (const each of opened.reverse()) await each.close();
    });

    const runner: Runner = (job, control) =>
      new Promise((resolve, reject) => {
        started.push({ job, control, finish: () => resolve({}) });
        control.signal.addEventListener("abort", () => reject(new Error("stopped")));
      });
    /** A process's own registry and queue; with `runs` a worker's. */
    const another = async (runs: boolean, lockMs?: number, backbone = "f", to = log) => {
      const own = await openRedisRegistry(redis.url);
      const connect = jobClients(redis.url, log);
      const worker = runs ? { runner, backbone, ...(lockMs && { lockMs }) } : {};
      const jobs = await openBullJobs({ registry: own, connect, log: to, ...worker });
      opened.push(own, jobs);
      return jobs;
    };
    const submit = async (jobs: Jobs, task: string, backbone = "f") =>
      (await jobs.submit({ task, born: "then", kind: "train", request: {}, backbone, blobs: [] })).id;
    const starts = async (count: number, timeout = 5000) => {
      await vi.waitFor(() => expect(started.length).toBe(count), { timeout, interval: 5 });
      return started.at(-1)!;
    };

    test("a task with many jobs keeps one with few waiting for one of them at most", async () => {
      const server = await another(false);
      const many = [];
      for (let at = 0; at < 4; at++) many.push(await submit(server, "many"));
      const few = await submit(server, "few");
      await another(true);
      for (let count = 1; count <= 5; count++) (await starts(count)).finish();
      const order = started.map(({ job }) => job.id);
      expect(order.indexOf(few)).toBeLessThan(2);
      expect(order.filter(id => id !== few)).toEqual(many);
    });

    test("a job that runs elsewhere is cancelled through its record; its task's next one follows", async () => {
      const server = await another(false);
      await another(true);
      const [first, second] = [await submit(server, "t"), await submit(server, "t")];
      const { control } = await starts(1);
      expect((await server.cancel(first)).state).toBe("cancelled");
      await vi.waitFor(() => expect(control.signal.aborted).toBe(true), { timeout: 2000, interval: 5 });
      const next = await starts(2);
      expect(next.job.id).toBe(second);
      control.progress(progress);
      next.finish();
      await vi.waitFor(async () => expect((await registry.getJob(second)).state).toBe("succeeded"));
      // What the stopped one still says is not written.
      expect(await registry.getJob(first)).toMatchObject({ state: "cancelled", progress: null });
    });

    test("jobs of different tasks run on different workers, those of one task one at a time", async () => {
      const server = await another(false);
      await Promise.all([another(true), another(true)]);
      const ids = [await submit(server, "a"), await submit(server, "a"), await submit(server, "b")];
      await starts(2);
      expect(new Set(started.map(({ job }) => job.id))).toEqual(new Set([ids[0], ids[2]]));
      started.find(({ job }) => job.id === ids[0])!.finish();
      expect((await starts(3)).job.id).toBe(ids[1]);
    });

    test("a worker leaves jobs of another backbone to those that have it, and says so", async () => {
      const told: string[] = [];
      const server = await another(false);
      await another(true, undefined, "f", {
        error: (...[, text]: unknown[]) => void told.push(String(text)),
      });
      const [others, mine] = [await submit(server, "t", "g"), await submit(server, "u")];
      const { job, finish } = await starts(1);
      expect(job.id).toBe(mine);
      finish();
      await vi.waitFor(() => expect(told).toEqual([expect.stringMatching(/for another backbone.*cancel/)]));
      expect(await registry.getJob(others)).toMatchObject({ state: "queued", attempts: 0 });
      await another(true, undefined, "g");
      const next = await starts(2, 20_000);
      expect(next.job.id).toBe(others);
      next.finish();
      await vi.waitFor(async () => expect((await registry.getJob(others)).state).toBe("succeeded"));
    });

    test("a job for a backbone that no worker has holds up none of its task for another, and is cancelled", async () => {
      const server = await another(false);
      await another(true);
      const others = [await submit(server, "t", "g"), await submit(server, "t", "g")];
      const mine = [await submit(server, "t"), await submit(server, "t")];
      const first = await starts(1);
      expect(first.job.id).toBe(mine[0]);
      expect((await server.cancel(others[0]!)).state).toBe("cancelled");
      first.finish();
      const second = await starts(2);
      expect(second.job.id).toBe(mine[1]);
      second.finish();
      await vi.waitFor(async () => expect((await registry.getJob(mine[1]!)).state).toBe("succeeded"));
      await another(true, undefined, "g");
      const last = await starts(3, 20_000);
      expect(last.job.id).toBe(others[1]);
      last.finish();
      await vi.waitFor(async () => expect((await registry.getJob(others[1]!)).state).toBe("succeeded"));
    });

    test("a worker that is killed loses its job to another, which goes on from the checkpoint", async () => {
      const path = fileURLToPath(new URL("./worker.ts", import.meta.url));
      const child = spawn(process.execPath, ["--import", "tsx", path, redis.url], {
        stdio: ["ignore", "ignore", "inherit"],
      });
      const server = await another(false);
      const id = await submit(server, "t");
      await vi.waitFor(async () => expect((await registry.getJob(id)).checkpoint).not.toBeNull(), {
        timeout: 20_000,
      });
      child.kill("SIGKILL");
      await another(true, 1000);
      const { job, finish } = await starts(1, 20_000);
      expect(job.id).toBe(id);
      expect(Buffer.from(await registry.getBlob(job.checkpoint!)).toString()).toBe("half way");
      finish();
      await vi.waitFor(async () => expect((await registry.getJob(id)).state).toBe("succeeded"));
    });

    test("a job goes on while Redis is away, and its end is written when it is back; the next one follows", async () => {
      const server = await another(false);
      await another(true);
      const [first, second] = [await submit(server, "t"), await submit(server, "t")];
      const { control, finish } = await starts(1);
      await redis.stop();
      control.log("while nobody can hear it");
      await expect(submit(server, "u")).rejects.toMatchObject({ code: "registry_unavailable" });
      finish();
      await new Promise(resolve => setTimeout(resolve, 1000));
      await redis.begin();
      (await starts(2, 30_000)).finish();
      await vi.waitFor(async () => expect((await registry.getJob(second)).state).toBe("succeeded"), 5000);
      const record = await registry.getJob(first);
      expect(record).toMatchObject({ state: "succeeded", attempts: 1 });
      expect(record.log.map(({ text }) => text)).toEqual(["while nobody can hear it"]);
    });

    test("a job whose data can't be read while Redis is away goes on to its trainer when it is back", async () => {
      let load = () => {};
      const loading = new Promise<void>(resolve => {
        load = resolve;
      });
      const backbone = () => ({ fingerprint: "f", precision: { active: "fp32", table: [] } });
      const engine = {
        ready: async () => {},
        state: () => ({ status: "ready" }),
        backbone,
      } as unknown as Engine;
      const own = await openRedisRegistry(redis.url);
      const late = {
        ...own,
        getTask: (...asked: Parameters<Registry["getTask"]>) => loading.then(() => own.getTask(...asked)),
      };
      const jobs = await openBullJobs({
        registry: own,
        connect: jobClients(redis.url, log),
        log,
        runner: createRunner({
          registry: late,
          engine,
          // It ends with a reason of its own: there is no backbone.
          place: { backbone: "/nowhere", data: "/nowhere", runtime: "onnx", threads: 1 },
          watchBusy: () => () => {},
          log,
        }),
      });
      opened.push(own, jobs);
      const { created_at: born } = await registry.createTask(newTask("t"), hard(), "ann");
      const examples = await registry.putBlob(Buffer.from("examples"));
      const contenders = [{ prompt: 1, active: { prompt: 1 } }];
      const request = { contenders, examples, settings: {}, stores: null };
      const asked = { task: "t", born, kind: "evaluate" as const, request, backbone: "f", blobs: [] };
      const { id } = await jobs.submit(asked);
      await vi.waitFor(async () => expect((await registry.getJob(id)).state).toBe("running"));
      await redis.stop();
      load();
      await new Promise(resolve => setTimeout(resolve, 1500));
      await redis.begin();
      const record = await vi.waitFor(
        async () => {
          const job = await registry.getJob(id);
          expect(job.ended_at).not.toBeNull();
          return job;
        },
        { timeout: 40_000, interval: 50 },
      );
      expect(record).toMatchObject({ state: "failed", attempts: 1, error: { code: "not_ready" } });
      expect(record.log.map(({ text }) => text).join()).toContain("can't be read yet");
    });

    test("a worker whose job another one has taken over stops, and writes nothing any more", async () => {
      const server = await another(false);
      await another(true);
      const id = await submit(server, "t");
      const { control } = await starts(1);
      await registry.updateJob(id, { holder: "another" });
      control.progress(progress);
      await vi.waitFor(() => expect(control.signal.aborted).toBe(true), { timeout: 5000 });
      expect(await registry.getJob(id)).toMatchObject({ state: "running", progress: null });
    });
  });
});

describeRedis("BullMQ in a cluster", () => {
  let cluster: RedisCluster;
  beforeAll(async () => {
    cluster = await RedisCluster.start();
  });
  afterAll(() => cluster.remove());
  beforeEach(() => cluster.flush());

  jobsContract(
    "the queue and its records in a Redis cluster",
    (registry, runner, concurrency) => {
      const connect = jobClients(cluster.url("?wait=0"), log);
      return openBullJobs({ registry, connect, runner, concurrency, log });
    },
    () => openRedisRegistry(cluster.url("?wait=0")),
  );
});

const progress = {
  step: 1,
  steps: 2,
  loss: null,
  examples_per_second: null,
  eta_seconds: null,
  validation: null,
};

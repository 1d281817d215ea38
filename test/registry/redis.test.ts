import { createHash } from "node:crypto";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, it } from "vitest";
import { openLmdbRegistry } from "../../src/registry/lmdb.ts";
import { openRedisRegistry } from "../../src/registry/redis.ts";
import { PART } from "../../src/registry/redis-blobs.ts";
import type { Row } from "../../src/registry/store.ts";
import { describeRedis } from "../support/redis.ts";
import { RedisCluster, RedisServer } from "../support/redis-server.ts";
import { registryContract } from "./contract.ts";
import { hard, newJob, newTask } from "./records.ts";

describeRedis("one Redis", () => {
  let redis: RedisServer;
  beforeAll(async () => {
    redis = await RedisServer.start();
  });
  afterAll(() => redis.remove());

  registryContract("redis", async () => {
    await redis.admin.flushall();
    return openRedisRegistry(redis.url);
  });

  it("reads a page of a task's jobs, and not all that there are", async () => {
    await redis.admin.flushall();
    const registry = await openRedisRegistry(redis.url);
    const { revision, ...job } = await registry.putJob(newJob("j"));
    async function* rows(): AsyncGenerator<Row> {
      for (let order = 1; order <= 20_000; order++) {
        yield { key: ["job", `j${order}`], row: { ...job, id: `j${order}`, revision } };
        yield { key: ["job-order", order], row: { order, id: `j${order}`, task: "t" } };
      }
    }
    await registry.replaceRows(rows());
    await redis.admin.config("RESETSTAT");
    const { items } = await registry.listJobs({ task: "t", limit: 1 });
    expect(items.map(({ id }) => id)).toEqual(["j20000"]);
    const calls = /cmdstat_hget:calls=(\d+)/.exec(await redis.admin.info("commandstats"));
    expect(Number(calls![1])).toBeLessThan(1100);
    await registry.close();
  });

  it("deletes a task that was activated 100,000 times", async () => {
    await redis.admin.flushall();
    const registry = await openRedisRegistry(redis.url);
    const revisions = 100_000;
    const task = { ...(await registry.createTask(newTask("t"), null, "ann")), next: 1 };
    const at = task.created_at;
    async function* rows(): AsyncGenerator<Row> {
      for (let revision = 1; revision <= revisions; revision++)
        yield { key: ["history", "t", revision], row: { revision, active: null, by: "ann", at } };
      yield { key: ["task", "t"], row: { ...task, active_revision: revisions } };
      yield { key: ["task", "u"], row: { ...task, id: "u" } };
    }
    await registry.replaceRows(rows());
    expect((await registry.listHistory("t", { limit: 1 })).items[0]!.revision).toBe(revisions);
    await registry.deleteTask("t");
    expect(await redis.admin.exists("{fw}:history", "{fw}:history:order")).toBe(0);
    expect((await registry.listTasks()).items.map(({ id }) => id)).toEqual(["u"]);
    await registry.close();
  });
});

describeRedis("a cluster of three", () => {
  let cluster: RedisCluster;
  beforeAll(async () => {
    cluster = await RedisCluster.start();
  });
  afterAll(() => cluster.remove());

  registryContract("redis cluster", async () => {
    await cluster.flush();
    // Masters alone: there is no replica to wait for.
    return openRedisRegistry(cluster.url("?wait=0"));
  });

  it("keeps blobs in any slot, sweeps them, and is backed up", async () => {
    await cluster.flush();
    let skipped = 0;
    const registry = await openRedisRegistry(cluster.url("?wait=0"), { now: () => Date.now() + skipped });
    const blobs = await Promise.all(
      Array.from({ length: 12 }, (_, at) => registry.putBlob(new TextEncoder().encode(`${at}`))),
    );
    const large = await registry.putBlob(Buffer.alloc(2 * PART + 1, 7));
    const named = [...blobs.slice(0, 4), large];
    await registry.createTask(newTask("t"), hard(), "ann");
    for (const parameters of named) await registry.addPrompt("t", { ...hard(), kind: "prefix", parameters });
    const shares = await Promise.all(cluster.nodes.map(({ admin }) => admin.keys("fw:blob:*")));
    expect(shares.filter(keys => keys.length > 0).length).toBeGreaterThan(1);
    skipped = 7_200_000;
    expect((await registry.sweep()).blobs).toBe(8);
    const folder = await mkdtemp(join(tmpdir(), "foreword-cluster-"));
    await registry.backup(join(folder, "copy"));
    const copy = await openLmdbRegistry(join(folder, "copy"));
    expect(await copy.listPrompts("t")).toEqual(await registry.listPrompts("t"));
    for (const blob of named)
      expect(Buffer.compare(await copy.getBlob(blob), await registry.getBlob(blob))).toBe(0);
    await Promise.all([copy.close(), registry.close()]);
    await rm(folder, { recursive: true });
  });

  it("follows a slot to another node, writes that wait for a replica too", async () => {
    await cluster.flush();
    const [waiting, plain] = await Promise.all(
      ["", "?wait=0"].map(url => openRedisRegistry(cluster.url(url))),
    );
    const bytes = new Uint8Array([1, 2, 3]);
    const key = `fw:blob:${createHash("sha256").update(bytes).digest("hex")}`;
    const slot = await cluster.nodes[0]!.admin.cluster("KEYSLOT", key);
    const from = Math.floor((slot * 3) / 16384);
    const target = cluster.nodes[(from + 1) % 3]!;
    const id = await target.admin.cluster("MYID");
    for (const { admin } of [target, ...cluster.nodes]) await admin.cluster("SETSLOT", slot, "NODE", id);
    // It came to the new node, which has no replica; the old one would have said MOVED.
    await expect(waiting!.putBlob(bytes)).rejects.toThrow(/0 of 1 replicas/);
    expect(await plain!.getBlob(await plain!.putBlob(bytes))).toEqual(Buffer.from(bytes));
    expect(await target.admin.exists(key)).toBe(1);
    await Promise.all([waiting!.close(), plain!.close()]);
  });

  it("acknowledges no write that no replica confirms, unless told to", async () => {
    await cluster.flush();
    const registry = await openRedisRegistry(cluster.url());
    await expect(registry.createTask(newTask("t"), null, "ann")).rejects.toMatchObject({
      code: "registry_unavailable",
      message: expect.stringMatching(/0 of 1 replicas.*wait=0/),
    });
    await registry.close();
  });
});

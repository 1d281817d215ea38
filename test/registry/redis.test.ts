import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, it } from "vitest";
import { openLmdbRegistry } from "../../src/registry/lmdb.ts";
import { openRedisRegistry } from "../../src/registry/redis.ts";
import { describeRedis } from "../support/redis.ts";
import { RedisCluster, RedisServer } from "../support/redis-server.ts";
import { registryContract } from "./contract.ts";
import { hard, newTask } from "./records.ts";

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
    const named = blobs.slice(0, 4);
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
    for (const blob of named) expect(await copy.getBlob(blob)).toEqual(await registry.getBlob(blob));
    await Promise.all([copy.close(), registry.close()]);
    await rm(folder, { recursive: true });
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

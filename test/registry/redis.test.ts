import { afterAll, beforeAll } from "vitest";
import { openRedisRegistry } from "../../src/registry/redis.ts";
import { describeRedis } from "../support/redis.ts";
import { RedisCluster, RedisServer } from "../support/redis-server.ts";
import { registryContract } from "./contract.ts";

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
});

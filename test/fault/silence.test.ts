/** A Redis whose host is gone: nothing closes its connections, and nothing comes from it any more. */
import { expect, test, vi } from "vitest";
import { openRedisRegistry } from "../../src/registry/redis.ts";
import { newTask } from "../registry/records.ts";
import { describeRedis } from "../support/redis.ts";
import { RedisServer } from "../support/redis-server.ts";
import { Relay } from "../support/relay.ts";

describeRedis("a Redis that falls silent", () => {
  test("is asked anew on another connection within a minute", async context => {
    const redis = await RedisServer.start();
    const network = await Relay.to(redis.port);
    const registry = await openRedisRegistry(`redis://127.0.0.1:${network.port}`);
    context.onTestFinished(async () => {
      await registry.close();
      network.close();
      await redis.remove();
    });
    await registry.createTask(newTask("before"), null, "ann");
    network.silence();
    await expect(registry.createTask(newTask("while"), null, "ann")).rejects.toMatchObject({
      code: "registry_unavailable",
    });
    await vi.waitFor(() => registry.createTask(newTask("after"), null, "ann"), {
      timeout: 60_000,
      interval: 500,
    });
    expect((await registry.getTask("before")).id).toBe("before");
  }, 90_000);
});

/** An Idempotency-Key across replicas: two servers' routes over one Redis. */
import Fastify, { type FastifyInstance } from "fastify";
import { afterAll, beforeAll, beforeEach, expect, test } from "vitest";
import { openRedisRegistry } from "../../src/registry/redis.ts";
import type { Registry } from "../../src/registry/registry.ts";
import { idempotent } from "../../src/server/idempotency.ts";
import { describeRedis } from "../support/redis.ts";
import { RedisServer } from "../support/redis-server.ts";

describeRedis("an Idempotency-Key", () => {
  let redis: RedisServer;
  let registries: Registry[];
  let replicas: FastifyInstance[];
  let work: () => Promise<void>;
  let done: number;
  beforeAll(async () => {
    redis = await RedisServer.start();
    registries = await Promise.all([openRedisRegistry(redis.url), openRedisRegistry(redis.url)]);
    replicas = registries.map(registry => {
      const app = Fastify();
      app.post("/work", (request, reply) =>
        idempotent(registry, request, reply, async () => {
          const number = ++done;
          await work();
          return { status: 201, headers: { Location: `/work/${number}` }, body: { number } };
        }),
      );
      return app;
    });
  });
  afterAll(async () => {
    await Promise.all(replicas.map(app => app.close()));
    await Promise.all(registries.map(registry => registry.close()));
    await redis.remove();
  });
  beforeEach(async () => {
    await redis.admin.flushall();
    done = 0;
    work = async () => {};
  });

  const post = (replica: number, payload: object = { a: 1 }) =>
    replicas[replica]!.inject({
      method: "POST",
      url: "/work",
      payload,
      headers: { "idempotency-key": "k" },
    });

  test("is answered once, whichever replicas hear it at once or later", async () => {
    work = () => new Promise(resolve => setTimeout(resolve, 300));
    const [first, second] = await Promise.all([post(0), post(1)]);
    for (const reply of [first, second, await post(0), await post(1)]) {
      expect(reply.json()).toEqual({ number: 1 });
      expect([reply.statusCode, reply.headers.location]).toEqual([201, "/work/1"]);
    }
    expect(done).toBe(1);
  });

  test("of another request is a conflict, also while the first is being answered", async () => {
    work = () => new Promise(resolve => setTimeout(resolve, 300));
    const first = post(0);
    await new Promise(resolve => setTimeout(resolve, 100));
    expect((await post(1, { a: 2 })).json()).toMatchObject({ code: "idempotency_conflict" });
    expect((await first).statusCode).toBe(201);
    expect((await post(1, { a: 2 })).json()).toMatchObject({ code: "idempotency_conflict" });
  });

  test("keeps no failure: the one who waits answers", async () => {
    work = async () => {
      await new Promise(resolve => setTimeout(resolve, 200));
      if (done === 1) throw new Error("the first one fails");
    };
    const replies = await Promise.all([post(0), post(1)]);
    expect(replies.map(({ statusCode }) => statusCode).sort()).toEqual([201, 500]);
    expect((await post(0)).json()).toEqual({ number: 2 });
  });

  test("a request whose work is done is answered though its reply can't be kept", async () => {
    work = async () => {
      await redis.admin.config("SET", "maxmemory-policy", "noeviction");
      await redis.admin.config("SET", "maxmemory", "1");
    };
    try {
      expect((await post(0)).json()).toEqual({ number: 1 });
    } finally {
      await redis.admin.config("SET", "maxmemory", "0");
    }
  });

  test("without a replica that must confirm, is refused before any work", async () => {
    const registry = await openRedisRegistry(`${redis.url}?wait=1`);
    const reply = { status: 201, headers: {}, body: null };
    try {
      for (const call of [
        () => registry.claim("k", "h", "ann"),
        () => registry.remember("k", "h", reply, "ann"),
      ])
        await expect(call()).rejects.toMatchObject({
          code: "registry_unavailable",
          message: expect.stringMatching(/0 of 1 replicas/),
        });
    } finally {
      await registry.close();
    }
  });
});

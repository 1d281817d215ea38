/** The change feed between two replicas on one Redis; the second one's network can be cut. */
import { afterAll, beforeAll, beforeEach, expect, test, vi } from "vitest";
import { openRedisRegistry } from "../../src/registry/redis.ts";
import type { Change, Notice, Registry } from "../../src/registry/registry.ts";
import { Serving } from "../../src/server/serving.ts";
import { describeRedis } from "../support/redis.ts";
import { RedisServer } from "../support/redis-server.ts";
import { Relay } from "../support/relay.ts";
import { hard, newJob, newTask } from "./records.ts";

describeRedis("the change feed in Redis", () => {
  let redis: RedisServer;
  let network: Relay;
  let a: Registry;
  let b: Registry;
  let heard: Notice[];
  beforeAll(async () => {
    redis = await RedisServer.start();
  });
  afterAll(() => redis.remove());
  beforeEach(async context => {
    await redis.admin.flushall();
    network = await Relay.to(redis.port);
    a = await openRedisRegistry(redis.url);
    b = await openRedisRegistry(`redis://127.0.0.1:${network.port}`);
    heard = [];
    b.watch(notice => heard.push(notice));
    await a.createTask(newTask("t"), hard(), "ann");
    context.onTestFinished(async () => {
      await Promise.all([a.close(), b.close()]);
      network.close();
    });
  });

  const activate = async (times: number) => {
    for (let at = 0; at < times; at++) await a.setActive("t", at % 2 === 0 ? null : { prompt: 1 }, "ann");
  };
  const hears = (condition: () => void) => vi.waitFor(condition, { timeout: 10_000, interval: 5 });
  const all = async (): Promise<Change[]> => (await a.changes(0)).changes;

  test("carries each change to the other replica within 100 ms", async () => {
    await hears(() => expect(heard).toHaveLength(3));
    const delays: number[] = [];
    for (let at = 1; at <= 50; at++) {
      const began = performance.now();
      await activate(1);
      await hears(() => expect(heard).toHaveLength(3 + at));
      delays.push(performance.now() - began);
    }
    expect(heard).toEqual(await all());
    expect(delays.sort((x, y) => x - y)[25]).toBeLessThan(100);
  });

  test("misses nothing and repeats nothing while its connection is killed again and again", async () => {
    for (let at = 0; at < 20; at++) {
      const writing = activate(5);
      await redis.admin.call("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes");
      await writing.catch(() => {});
    }
    await activate(1);
    const changes = await all();
    expect(changes.length).toBeGreaterThan(50);
    await hears(() => expect(heard).toHaveLength(changes.length));
    expect(heard).toEqual(changes);
  });

  test("is taken up where it broke off by a replica that was away", async () => {
    await hears(() => expect(heard).toHaveLength(3));
    network.cut();
    await activate(30);
    expect(heard).toHaveLength(3);
    network.mend();
    await hears(() => expect(heard).toHaveLength(33));
    expect(heard).toEqual(await all());
  });

  test("comes late over a slow network, and whole: each write is done and told once", async () => {
    await hears(() => expect(heard).toHaveLength(3));
    network.slow(100);
    const began = performance.now();
    const added = await Promise.all(
      ["x", "y", "z"].map(word => b.addPrompt("t", hard(`${word} {{ input }}`))),
    );
    expect(performance.now() - began).toBeGreaterThan(400);
    expect(added.map(({ version }) => version).sort()).toEqual([2, 3, 4]);
    // Whoever wrote has heard of it when the write resolves.
    expect(heard).toEqual(await all());
    expect(heard).toHaveLength(6);
  });

  test("over a network that is too slow: refused in time and in words; in step again when it is quick", async () => {
    await hears(() => expect(heard).toHaveLength(3));
    network.slow(60_000);
    const began = performance.now();
    const late = await Promise.allSettled([
      b.getTask("t"),
      b.addPrompt("t", hard("late {{ input }}")),
      b.putBlob(new TextEncoder().encode("x")),
    ]);
    expect(performance.now() - began).toBeLessThan(6000);
    for (const each of late)
      expect(each).toMatchObject({
        status: "rejected",
        reason: { code: "registry_unavailable", message: expect.stringMatching(/within 4 s.*network/) },
      });
    expect([a.reachable(), b.reachable()]).toEqual([true, false]);
    await activate(10);
    expect(heard).toHaveLength(3);
    network.hurry();
    await hears(() => expect(heard).toHaveLength(13));
    await hears(() => expect(b.reachable()).toBe(true));
    // The write had not got beyond its questions: nothing is left of it.
    expect((await b.addPrompt("t", hard())).version).toBe(2);
    expect(heard).toEqual(await all());
  });

  test("tells a replica to reload if what it missed is no longer kept, then goes on", async () => {
    await hears(() => expect(heard).toHaveLength(3));
    network.cut();
    await activate(30);
    await redis.admin.xtrim("{fw}:feed", "MAXLEN", 5);
    network.mend();
    await hears(() => expect(heard.slice(3)).toEqual([{ kind: "reload" }]));
    expect(await b.changes(3)).toMatchObject({ trimmed: true });
    await activate(1);
    await hears(() => expect(heard.at(-1)).toEqual({ kind: "active", id: "t", seq: 34 }));
    expect(heard).toHaveLength(5);
  });

  test("tells a replica to reload if what it heard is no longer what was written, as after a fail-over", async () => {
    await activate(5);
    await hears(() => expect(heard).toHaveLength(8));
    network.cut();
    // The old master's last write is lost; the new one gave its number to another.
    await redis.admin.del("{fw}:feed");
    await redis.admin.xadd("{fw}:feed", "8-0", "change", '{"kind":"task","id":"u"}', "commit", "another");
    network.mend();
    await hears(() => expect(heard.at(-1)).toEqual({ kind: "reload" }));
  });

  test("drops from what a replica serves just what changed", async () => {
    await a.createTask(newTask("u"), hard(), "ann");
    await a.addPrompt("t", hard("Second: {{ input }}"));
    await hears(() => expect(heard).toHaveLength(7));
    const read: string[] = [];
    const counted: Registry = {
      ...b,
      getTask: id => {
        read.push(id);
        return b.getTask(id);
      },
      getPrompt: (id, version) => {
        read.push(`${id}@${version}`);
        return b.getPrompt(id, version);
      },
    };
    const serving = new Serving(counted);
    const look = async () => {
      read.length = 0;
      const [t, u] = [await serving.task("t"), await serving.task("u")];
      for (const version of [1, 2]) await serving.prompt(t, version).catch(() => {});
      await serving.prompt(u, 1);
      return [...read];
    };
    expect(await look()).toEqual(["t", "u", "t@1", "t@2", "u@1"]);
    expect(await look()).toEqual([]);
    const after = async (change: Promise<unknown>) => {
      await change;
      const { last } = await a.changes(0);
      await hears(() => expect(heard.at(-1)).toMatchObject({ seq: last }));
      return look();
    };
    expect(await after(a.setActive("t", { prompt: 2 }, "ann"))).toEqual(["t"]);
    expect((await serving.task("t")).active).toEqual({ prompt: 2 });
    expect(await after(a.addPrompt("t", hard()))).toEqual(["t"]);
    expect(await after(a.deletePrompt("t", 1))).toEqual(["t", "t@1"]);
    expect(await after(a.patchTask("u", { description: "new" }))).toEqual(["u", "t@1", "u@1"]);
    expect(await after(a.mark("nothing of theirs").then(() => a.putJob(newJob("t"))))).toEqual(["t@1"]);
    network.cut();
    for (const description of ["a", "b", "c"]) await a.patchTask("t", { description });
    await redis.admin.xtrim("{fw}:feed", "MAXLEN", 1);
    network.mend();
    await hears(() => expect(heard.at(-1)).toEqual({ kind: "reload" }));
    expect(await look()).toEqual(["t", "u", "t@1", "t@2", "u@1"]);
    serving.close();
  });
});

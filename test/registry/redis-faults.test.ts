/** What breaks under a Redis registry, and what it promises all the same. */
import { createHash, randomBytes } from "node:crypto";
import { mkdtemp, readdir, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, beforeAll, beforeEach, expect, test, vi } from "vitest";
import { openLmdbRegistry } from "../../src/registry/lmdb.ts";
import { openRedisRegistry } from "../../src/registry/redis.ts";
import { PART } from "../../src/registry/redis-blobs.ts";
import type { Notice, Registry } from "../../src/registry/registry.ts";
import type { Row } from "../../src/registry/store.ts";
import { emptyDisk, fillDisk } from "../support/full-disk.ts";
import { describeRedis } from "../support/redis.ts";
import { RedisServer } from "../support/redis-server.ts";
import { codeOf } from "./contract.ts";
import { allOf, hard, inTurn, newJob, newTask } from "./records.ts";

const hour = 3_600_000;
const bytesOf = (text: string) => new TextEncoder().encode(text);

describeRedis("a Redis registry", () => {
  let redis: RedisServer;
  /** Two replicas; their clocks go ahead by `skipped`. */
  let a: Registry;
  let b: Registry;
  let skipped = 0;
  beforeAll(async () => {
    redis = await RedisServer.start(["--appendonly", "yes", "--appendfsync", "always"]);
  });
  afterAll(() => redis.remove());
  beforeEach(async context => {
    await redis.admin.flushall();
    skipped = 0;
    const open = () => openRedisRegistry(redis.url, { now: () => Date.now() + skipped });
    [a, b] = await Promise.all([open(), open()]);
    context.onTestFinished(async () => {
      await Promise.all([a.close(), b.close()]);
    });
  });
  const fill = async () => {
    await redis.admin.config("SET", "maxmemory-policy", "noeviction");
    await redis.admin.config("SET", "maxmemory", "1");
  };
  const relieve = () => redis.admin.config("SET", "maxmemory", "0");
  const prefix = (parameters: string) => ({ ...hard(), kind: "prefix" as const, parameters });

  test("where there is none, is refused in seconds and in words", async () => {
    const refusal = await openRedisRegistry("redis://:secret@127.0.0.1:1").catch(error => error);
    expect(refusal).toMatchObject({ code: "registry_unavailable" });
    expect(refusal.message).toMatch(/can't be reached.*FOREWORD_REGISTRY/);
    expect(refusal.message).not.toContain("secret");
  });

  test("that is gone says so in time; when it is back, so is all that was acknowledged", async () => {
    await a.createTask(newTask("t"), hard(), "ann");
    await redis.stop();
    const began = Date.now();
    const calls = [() => a.getTask("t"), () => a.addPrompt("t", hard()), () => a.putBlob(bytesOf("x"))];
    for (const call of calls) expect(await codeOf(call())).toBe("registry_unavailable");
    expect(Date.now() - began).toBeLessThan(3 * 4500);
    expect(a.reachable()).toBe(false);
    await redis.begin();
    expect(await a.getTask("t")).toMatchObject({ prompts: 1 });
    expect(a.reachable()).toBe(true);
    expect((await a.addPrompt("t", hard())).version).toBe(2);
  });

  test("writes each write once, however often the connection is cut under it", async () => {
    await a.createTask(newTask("t"), null, "ann");
    let cutting = true;
    const cuts = (async () => {
      while (cutting) {
        await redis.admin.call("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes");
        await new Promise(resolve => setTimeout(resolve, 40));
      }
    })();
    const added: number[] = [];
    for (let at = 0; at < 60; at++) {
      const outcome = await a.addPrompt("t", hard(`${at} {{ input }}`)).catch(error => error);
      if (outcome instanceof Error) expect(outcome).toMatchObject({ code: "registry_unavailable" });
      else added.push(outcome.version);
    }
    cutting = false;
    await cuts;
    const { items } = await b.listPrompts("t", { limit: 1000 });
    expect(added.length).toBeGreaterThan(30);
    expect(items.map(({ version }) => version)).toEqual(expect.arrayContaining(added));
    // Each is there at most once, under the version that was told.
    expect(new Set(items.map(({ template }) => template)).size).toBe(items.length);
    expect((await b.getTask("t")).prompts).toBe(items.length);
  });

  test("makes a write that has a name, and that no replica confirmed, no second time", async () => {
    const unsure = await openRedisRegistry(`${redis.url}?wait=1`);
    try {
      const make = (registry: Registry) =>
        registry.createTask(newTask("t"), hard(), "ann", undefined, { commit: "c" });
      for (let times = 0; times < 2; times++) await expect(make(unsure)).rejects.toThrow(/0 of 1 replicas/);
      expect(await make(a)).toEqual(await b.getTask("t"));
      expect((await a.changes(0)).last).toBe(3);
      expect(await redis.admin.pttl("{fw}:commit:c")).toBeGreaterThan(23.9 * hour);
    } finally {
      await unsure.close();
    }
  });

  test("that is full refuses writes in words, answers reads, and takes writes again", async () => {
    await a.createTask(newTask("t"), hard(), "ann");
    await fill();
    try {
      for (const call of [() => a.addPrompt("t", hard()), () => a.putBlob(bytesOf("x"))])
        await expect(call()).rejects.toMatchObject({
          code: "registry_unavailable",
          message: expect.stringMatching(/Redis is full/),
        });
      expect(await a.getTask("t")).toMatchObject({ prompts: 1 });
    } finally {
      await relieve();
    }
    expect((await a.addPrompt("t", hard())).version).toBe(2);
  });

  test("that is full is copied all the same, unless it changes meanwhile", async () => {
    await a.createTask(newTask("t"), hard(), "ann");
    const blob = await a.putBlob(bytesOf("parameters"));
    await a.addPrompt("t", prefix(blob));
    const before = await a.snapshot(allOf);
    const folder = await mkdtemp(join(tmpdir(), "foreword-full-"));
    await fill();
    try {
      expect(await a.snapshot(allOf)).toEqual(before);
      await a.backup(folder);
      const copy = await openLmdbRegistry(folder);
      expect(await copy.getPrompt("t", 2)).toMatchObject({ parameters: blob });
      expect(new Uint8Array(await copy.getBlob(blob))).toEqual(bytesOf("parameters"));
      await copy.close();
      // What makes room goes on.
      const torn = a.snapshot(async rows => {
        for await (const { key } of rows) if (key[0] === "task") await b.deletePrompt("t", 2);
      });
      await expect(torn).rejects.toMatchObject({ message: expect.stringMatching(/changed.*Try again/) });
    } finally {
      await relieve();
      await rm(folder, { recursive: true });
    }
  });

  test("that is full takes no import, says why, and keeps what it has", async () => {
    await a.createTask(newTask("t"), hard(), "ann");
    const before = await a.snapshot(allOf);
    await fill();
    try {
      await expect(a.replaceRows(inTurn(before))).rejects.toMatchObject({
        code: "registry_unavailable",
        message: expect.stringMatching(/Redis is full/),
      });
      expect(await b.snapshot(allOf)).toEqual(before);
    } finally {
      await relieve();
    }
  });

  test.each(["task", "prompt:order", "names"])(
    "that throws an import's %s away changes nothing, and says so",
    async lost => {
      const parameters = await a.putBlob(bytesOf("parameters"));
      await a.createTask(newTask("t"), prefix(parameters), "ann");
      const before = await a.snapshot(allOf);
      async function* rows(): AsyncGenerator<Row> {
        yield* before;
        for (let at = 0; at < 300; at++) yield { key: ["mark", `${at}`], row: "" };
        // The first of them are written.
        expect(await redis.admin.del(...(await redis.admin.keys(`{fw}:new:*:${lost}`)))).toBe(1);
      }
      await expect(a.replaceRows(rows())).rejects.toMatchObject({
        code: "registry_unavailable",
        message: expect.stringMatching(/not all there.*Try again/),
      });
      expect(await b.snapshot(allOf)).toEqual(before);
      expect(await redis.admin.keys("{fw}:new:*")).toEqual([]);
      expect(await a.replaceRows(inTurn(before))).toBe(true);
    },
  );

  test("that may throw keys away is told of when it is opened", async () => {
    const told: unknown[] = [];
    const log = { error: (...what: unknown[]) => told.push(what) };
    const open = async (policy: string, maxmemory: string) => {
      await redis.admin.config("SET", "maxmemory-policy", policy);
      await redis.admin.config("SET", "maxmemory", maxmemory);
      await (await openRedisRegistry(redis.url, { log })).close();
    };
    try {
      await open("noeviction", "1gb");
      await open("allkeys-lru", "0");
      expect(told).toEqual([]);
      await open("allkeys-lru", "1gb");
      expect(told).toEqual([[{ policy: "allkeys-lru" }, expect.stringContaining("to noeviction")]]);
    } finally {
      await redis.admin.config("SET", "maxmemory-policy", "noeviction");
      await relieve();
    }
  });

  test("that is full is swept all the same, after puts and sweeps that never ended", async () => {
    const ended = await a.putBlob(bytesOf("put, and never named"));
    const removing = await a.putBlob(bytesOf("whose sweeper died"));
    await redis.admin.zrem("{fw}:blobs", removing);
    await redis.admin.zadd("{fw}:removing", Date.now(), removing);
    const used = Number(/used_memory:(\d+)/.exec(await redis.admin.info("memory"))![1]);
    try {
      await redis.admin.config("SET", "maxmemory", used + 5_000_000);
      // There is room to say that it begins, none for its bytes.
      await expect(a.putBlob(new Uint8Array(20_000_000))).rejects.toThrow(/Redis is full/);
      expect(await redis.admin.zcard("{fw}:pending")).toBe(1);
      await fill();
      skipped = 1.1 * hour;
      expect((await b.sweep()).blobs).toBe(2);
      for (const blob of [ended, removing])
        expect(await codeOf(a.getBlob(blob))).toBe("registry_unavailable");
      for (const key of ["pending", "removing", "blobs"])
        expect(await redis.admin.zcard(`{fw}:${key}`)).toBe(0);
    } finally {
      await relieve();
    }
  });

  test("keeps the copies that it is read from for as long as that goes on", async () => {
    const task = { ...(await a.createTask(newTask("t"), null, "ann")), next: 1 };
    const rows = Array.from({ length: 1200 }, (_, at) => ({
      key: ["history", "t", at + 1],
      row: { revision: at + 1, active: null, by: "ann", at: task.created_at },
    }));
    await a.replaceRows(inTurn([...rows, { key: ["task", "t"], row: task }]));
    const copies = () => redis.admin.keys("{fw}:copy:*");
    const seen: number[] = [];
    await a.snapshot(async taken => {
      let at = 0;
      for await (const _ of taken) {
        // As if most of their time were over: the next page comes in what is left of it.
        if (at++ % 500 !== 0) continue;
        const keys = await copies();
        for (const key of keys) seen.push(await redis.admin.pttl(key));
        for (const key of keys) await redis.admin.pexpire(key, 20_000);
      }
      expect(at).toBe(1201);
    });
    // Rows and order, of history and task, at each of three pages.
    expect(seen).toHaveLength(12);
    expect(Math.min(...seen)).toBeGreaterThan(500_000);
    expect(await copies()).toEqual([]);
  });

  test("keeps blobs of any length, in parts that Redis takes one by one, and reads those of one long field", async () => {
    for (const length of [0, PART - 1, PART, PART + 1, 2 * PART + 5]) {
      const bytes = randomBytes(length);
      const blob = await a.putBlob(bytes);
      const fields = (await redis.admin.hkeys(`fw:blob:${blob}`)).filter(field => /^bytes/.test(field));
      expect(fields).toHaveLength(Math.max(1, Math.ceil(length / PART)));
      expect(Buffer.compare(await b.getBlob(blob), bytes)).toBe(0);
    }
    const bytes = randomBytes(PART + 1);
    const blob = createHash("sha256").update(bytes).digest("hex");
    await redis.admin.hset(`fw:blob:${blob}`, { put: "by an earlier version", bytes });
    await redis.admin.zadd("{fw}:blobs", Date.now(), blob);
    expect(Buffer.compare(await a.getBlob(blob), bytes)).toBe(0);
    expect(await b.putBlob(bytes)).toBe(blob);
    expect((await redis.admin.hkeys(`fw:blob:${blob}`)).sort()).toEqual(["bytes", "put"]);
    expect(await a.dropBlob(blob)).toBe(true);
  });

  test("puts a file again of which a part is lost or cut off", async () => {
    const bytes = randomBytes(2 * PART + 5);
    const blob = await a.putBlob(bytes);
    for (const damage of [
      () => redis.admin.hdel(`fw:blob:${blob}`, "bytes:1"),
      () => redis.admin.hset(`fw:blob:${blob}`, "bytes", "cut off"),
    ]) {
      await damage();
      await expect(b.getBlob(blob)).rejects.toMatchObject({ fields: { blob } });
      expect(await a.putBlob(bytes)).toBe(blob);
      expect(Buffer.compare(await b.getBlob(blob), bytes)).toBe(0);
    }
  });

  test("takes a large file in little more memory than it keeps", async () => {
    const pid = /process_id:(\d+)/.exec(await redis.admin.info("server"))![1];
    const most = async () =>
      1024 * Number(/VmHWM:\s+(\d+)/.exec(await readFile(`/proc/${pid}/status`, "utf8"))![1]);
    const before = await most();
    const blob = await a.putBlob(Buffer.alloc(12 * PART, 1));
    await b.getBlob(blob);
    expect((await most()) - before).toBeLessThan(20 * PART);
  });

  test("that has no room for a large file keeps none of it", async () => {
    const used = Number(/used_memory:(\d+)/.exec(await redis.admin.info("memory"))![1]);
    await redis.admin.config("SET", "maxmemory-policy", "noeviction");
    try {
      await redis.admin.config("SET", "maxmemory", used + 3 * PART);
      await expect(a.putBlob(Buffer.alloc(5 * PART, 2))).rejects.toThrow(/Redis is full/);
      expect(await redis.admin.keys("fw:blob:*")).toEqual([]);
      await b.createTask(newTask("t"), hard(), "ann");
    } finally {
      await relieve();
    }
  });

  test("that loses a part of a file while it is written has no such file", async () => {
    const bytes = Buffer.alloc(8 * PART, 3);
    const blob = createHash("sha256").update(bytes).digest("hex");
    const outcome = a.putBlob(bytes).catch(error => error);
    while ((await redis.admin.hdel(`fw:blob:${blob}`, "bytes:1")) === 0);
    expect(await outcome).toMatchObject({
      code: "registry_unavailable",
      message: expect.stringMatching(/lost parts.*Try again/),
    });
    expect(await redis.admin.keys("fw:blob:*")).toEqual([]);
    await a.putBlob(bytes);
    expect(Buffer.compare(await b.getBlob(blob), bytes)).toBe(0);
  });

  test("keeps a large file that two put, and others drop, once it is named", async () => {
    await a.createTask(newTask("t"), null, "ann");
    for (let round = 0; round < 4; round++) {
      const bytes = randomBytes(3 * PART);
      const put = async (registry: Registry): Promise<string> => {
        const blob = await registry.putBlob(bytes);
        const code = await codeOf(registry.addPrompt("t", prefix(blob)));
        return code === "registry_unavailable" ? put(registry) : blob;
      };
      let putting = true;
      const drops = (async () => {
        while (putting) {
          await b.dropBlob(createHash("sha256").update(bytes).digest("hex"));
          await sleep(round);
        }
      })();
      const [blob] = await Promise.all([put(a), put(b)]);
      putting = false;
      await drops;
      expect(Buffer.compare(await a.getBlob(blob!), bytes)).toBe(0);
    }
  });

  test("refuses a blob that is too large before anything is sent", async () => {
    const stats = async () => Number(/total_net_input_bytes:(\d+)/.exec(await redis.admin.info("stats"))![1]);
    const before = await stats();
    const limit = 512 * 2 ** 20;
    await expect(a.putBlob(Buffer.alloc(limit + 1))).rejects.toMatchObject({
      code: "body_too_large",
      message: expect.stringContaining(`${limit} bytes`),
      fields: { limit },
    });
    expect((await stats()) - before).toBeLessThan(100_000);
    expect(await redis.admin.exists("{fw}:pending", "{fw}:blobs")).toBe(0);
    expect(a.reachable()).toBe(true);
  });

  test("backs up nothing where a blob is gone, or the disk full", async () => {
    const survive = () => {};
    process.on("SIGXFSZ", survive);
    const parent = await mkdtemp(join(tmpdir(), "foreword-backups-"));
    try {
      const blob = await a.putBlob(new Uint8Array(1_000_000));
      await a.createTask(newTask("t"), prefix(blob), "ann");
      for (const room of [1, 500_000]) {
        await fillDisk(process.pid, room);
        expect(await codeOf(a.backup(join(parent, "copy")))).toBe("registry_unavailable");
        await emptyDisk(process.pid);
        expect(await readdir(parent)).toEqual([]);
      }
      const { bytes, put } = await redis.admin.hgetallBuffer(`fw:blob:${blob}`);
      await redis.admin.del(`fw:blob:${blob}`);
      expect(await codeOf(a.backup(join(parent, "copy")))).toBe("registry_unavailable");
      expect(await readdir(parent)).toEqual([]);
      await redis.admin.hset(`fw:blob:${blob}`, { bytes, put });
      await a.backup(join(parent, "copy"));
      expect(await readdir(parent)).toEqual(["copy"]);
    } finally {
      await emptyDisk(process.pid);
      process.removeListener("SIGXFSZ", survive);
      await rm(parent, { recursive: true });
    }
  });

  test("whose feed can't be read tells the writer's watchers to reload before a write resolves", async () => {
    await a.createTask(newTask("t"), hard(), "ann");
    await redis.admin.call("ACL", "SETUSER", "default", "-xrange", "-xread");
    try {
      await redis.admin.call("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes");
      const seen: Notice[] = [];
      a.watch(notice => seen.push(notice));
      await a.patchTask("t", { description: "new" });
      expect(seen).toContainEqual({ kind: "reload" });
      await redis.admin.call("ACL", "SETUSER", "default", "+@all");
      await vi.waitFor(
        () => expect(seen).toContainEqual(expect.objectContaining({ kind: "task", id: "t" })),
        {
          timeout: 3000,
        },
      );
    } finally {
      await redis.admin.call("ACL", "SETUSER", "default", "+@all");
    }
  });

  test("two replicas that race: one wins, and all versions and feed entries are there", async () => {
    await a.createTask(newTask("t"), hard(), "ann");
    const tries = await Promise.all(
      [a, b, a, b].map((registry, at) =>
        codeOf(registry.setActive("t", at % 2 === 0 ? { prompt: 1 } : null, `${at}`, { expected: 1 })),
      ),
    );
    expect(tries.filter(code => code === "revision_conflict")).toHaveLength(3);
    const added = await Promise.all(
      Array.from({ length: 60 }, (_, at) => (at % 2 ? a : b).addPrompt("t", hard())),
    );
    expect(added.map(({ version }) => version).sort((x, y) => x - y)).toEqual(
      Array.from({ length: 60 }, (_, at) => at + 2),
    );
    const { changes } = await b.changes(0);
    expect(changes.map(({ seq }) => seq)).toEqual(Array.from({ length: 64 }, (_, at) => at + 1));
  });

  test("jobs that two replicas put at once are each listed, and open, once", async () => {
    const ids = Array.from({ length: 30 }, (_, at) => `job-${at}`);
    await Promise.all(ids.map((id, at) => (at % 2 ? a : b).putJob(newJob(id, at % 3 ? "t" : "u"))));
    const listed = await a.listJobs({ limit: 100 });
    expect(listed.items.map(({ id }) => id).sort()).toEqual([...ids].sort());
    expect((await b.openJobs()).map(({ id }) => id).reverse()).toEqual(listed.items.map(({ id }) => id));
    expect((await b.listJobs({ limit: 100, task: "u" })).items).toHaveLength(10);
  });

  test("sweeps what nothing names an hour after it was put, whichever replica does it", async () => {
    const put = (text: string) => a.putBlob(bytesOf(text));
    const [ofPrompt, ofDataset, ofJob, unnamed] = await Promise.all(
      ["prompt", "dataset", "job", "unnamed"].map(put),
    );
    await a.createTask(newTask("t"), prefix(ofPrompt!), "ann");
    await a.putDataset({ id: "d", rows: 1, labels: null, sha256: ofDataset!, bytes: 7 });
    await a.putJob({ ...newJob("j"), blobs: [ofJob!] });
    skipped = 0.9 * hour;
    expect(await b.sweep()).toEqual({ blobs: 0, replies: 0 });
    skipped = 1.1 * hour;
    const swept = await Promise.all([a.sweep(), b.sweep(), a.sweep()]);
    expect(swept.reduce((sum, { blobs }) => sum + blobs, 0)).toBe(1);
    expect(await codeOf(a.getBlob(unnamed!))).toBe("registry_unavailable");
    expect(await codeOf(a.addPrompt("t", prefix(unnamed!)))).toBe("registry_unavailable");
    for (const blob of [ofPrompt!, ofDataset!, ofJob!]) await b.getBlob(blob);
    await a.addPrompt("t", prefix(ofPrompt!));
    await a.setActive("t", null, "ann");
    await a.deletePrompt("t", 1);
    expect((await b.sweep()).blobs).toBe(0);
    await a.deleteTask("t");
    await a.deleteDataset("d");
    await a.updateJob("j", { state: "succeeded", ended_at: new Date().toISOString() });
    expect((await b.sweep()).blobs).toBe(3);
    expect(await redis.admin.keys("fw:blob:*")).toEqual([]);
    expect(await redis.admin.hlen("{fw}:names")).toBe(0);
  });

  test("a sweep that races with whoever names a blob loses none that is named", async () => {
    await a.createTask(newTask("t"), null, "ann");
    let [named, refused] = [0, 0];
    for (let round = 0; round < 60; round++) {
      const bytes = bytesOf(`blob ${round}`);
      const blob = await a.putBlob(bytes);
      skipped += 2 * hour;
      const [, , outcome] = await Promise.all([
        b.sweep(),
        a.sweep(),
        // Every other time it is put again by someone else meanwhile, who may then rely on it.
        round % 2 === 0
          ? codeOf(a.addPrompt("t", prefix(blob)))
          : codeOf(b.putBlob(bytes).then(again => b.addPrompt("t", prefix(again)))),
      ]);
      if (outcome === "registry_unavailable") refused++;
      else {
        named++;
        expect(outcome).toHaveProperty("resolved");
        await a.getBlob(blob);
      }
      if (round % 2 === 1) expect(outcome).toHaveProperty("resolved");
    }
    expect(named).toBeGreaterThanOrEqual(30);
    expect(named + refused).toBe(60);
    skipped += 2 * hour;
    await b.sweep();
    for (const { parameters } of (await b.listPrompts("t", { limit: 1000 })).items)
      await b.getBlob(parameters!);
  });

  test("drops no blob that another is still putting, though one who put the same has done so", async () => {
    const bytes = bytesOf("the same");
    const blob = await a.putBlob(bytes);
    await redis.admin.zadd("{fw}:pending", Date.now(), blob);
    await redis.admin.sadd(`{fw}:puts:${blob}`, "another");
    await a.putBlob(bytes);
    expect(await b.dropBlob(blob)).toBe(false);
    await redis.admin.srem(`{fw}:puts:${blob}`, "another");
    await a.putBlob(bytes);
    expect(await redis.admin.zcard("{fw}:pending")).toBe(0);
    expect(await b.dropBlob(blob)).toBe(true);
  });

  test("drops and sweeps of two replicas that race with puts lose nothing named, and leave nothing else", async () => {
    await a.createTask(newTask("t"), null, "ann");
    const named: string[] = [];
    for (let round = 0; round < 60; round++) {
      const bytes = bytesOf(`blob ${round}`);
      const blob = await a.putBlob(bytes);
      const name = async (registry: Registry) =>
        registry.addPrompt("t", prefix(await registry.putBlob(bytes)));
      const outcomes = await Promise.all([
        ...(round % 2 === 0 ? [codeOf(name(a)), codeOf(name(b))] : [a.putBlob(bytes), b.putBlob(bytes)]),
        ...[a, b].flatMap(registry => [registry.dropBlob(blob), registry.sweep()]),
      ]);
      if (round % 2 === 0 && outcomes.slice(0, 2).some(outcome => outcome !== "registry_unavailable"))
        named.push(blob);
      for (const each of named) await b.getBlob(each);
    }
    expect(named.length).toBeGreaterThan(0);
    skipped = 1.1 * hour;
    await a.sweep();
    expect((await redis.admin.keys("fw:blob:*")).sort()).toEqual(named.map(each => `fw:blob:${each}`).sort());
    for (const key of ["pending", "removing"]) expect(await redis.admin.zcard(`{fw}:${key}`)).toBe(0);
  });

  test("sweeps nothing while any snapshot is read, and at once when the last one is", async () => {
    const blob = await a.putBlob(bytesOf("unnamed"));
    skipped = 1.1 * hour;
    await a.snapshot(async () => {
      await b.snapshot(async () => expect((await b.sweep()).blobs).toBe(0));
      expect((await a.sweep()).blobs).toBe(0);
      await a.getBlob(blob);
    });
    expect((await b.sweep()).blobs).toBe(1);
  });

  test("backs up into a folder that opens as a registry, while writes go on", async () => {
    const blob = await a.putBlob(bytesOf("parameters"));
    await a.createTask(newTask("t"), prefix(blob), "ann");
    await a.createTask(newTask("t.2"), hard("other {{ input }}"), "ann");
    await a.putDataset({ id: "d", rows: 1, labels: null, sha256: blob, bytes: 10 });
    await a.putJob(newJob("j"));
    await a.mark("done with it");
    for (let at = 0; at < 12; at++) await a.addPrompt("t", hard(), { activate: { by: "ann" } });
    let writing = true;
    const writer = (async () => {
      while (writing) await b.addPrompt("t.2", hard(), { activate: { by: "bob" } });
    })();
    const folder = await mkdtemp(join(tmpdir(), "foreword-backup-"));
    await a.backup(join(folder, "copy"));
    writing = false;
    await writer;
    const copy = await openLmdbRegistry(join(folder, "copy"));
    for (const read of [
      (registry: Registry) => registry.getTask("t"),
      (registry: Registry) => registry.listPrompts("t"),
      (registry: Registry) => registry.listHistory("t"),
      (registry: Registry) => registry.listDatasets(),
      (registry: Registry) => registry.listJobs(),
      (registry: Registry) => registry.openJobs(),
      (registry: Registry) => registry.marked("done with it"),
      (registry: Registry) => registry.getBlob(blob).then(bytes => Buffer.from(bytes).toString()),
    ])
      expect(await read(copy)).toEqual(await read(a));
    const other = await copy.getTask("t.2");
    expect(other.active).toEqual({ prompt: other.prompts });
    expect((await copy.listHistory("t.2", { limit: 1 })).items[0]!.revision).toBe(other.active_revision);
    const { last } = await copy.changes(0);
    expect((await copy.changes(0)).trimmed).toBe(true);
    await copy.addPrompt("t", hard());
    expect((await copy.changes(last)).changes.map(({ seq }) => seq)).toEqual([last + 1]);
    await copy.close();
    await rm(folder, { recursive: true });
  });
});

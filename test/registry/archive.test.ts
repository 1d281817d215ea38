/** Registries as files: out of LMDB into Redis and back, and archives that are not what they were. */
import { createHash } from "node:crypto";
import { mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { ForewordError } from "../../src/errors.ts";
import { Archive, type RestoreOptions } from "../../src/registry/archive-read.ts";
import { writeArchive } from "../../src/registry/archive-write.ts";
import { openLmdbRegistry } from "../../src/registry/lmdb.ts";
import { openRedisRegistry } from "../../src/registry/redis.ts";
import type { Notice, Registry } from "../../src/registry/registry.ts";
import { foreword } from "../support/command.ts";
import { describeRedis } from "../support/redis.ts";
import { RedisServer } from "../support/redis-server.ts";
import { allOf, hard, inTurn, newJob, newTask } from "./records.ts";

let folder: string;
const closing: (() => Promise<void>)[] = [];
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), "foreword-archive-"));
});
afterEach(async () => {
  for (const close of closing.splice(0)) await close();
  await rm(folder, { recursive: true, force: true });
});

async function lmdb(name: string): Promise<Registry> {
  const registry = await openLmdbRegistry(join(folder, name));
  closing.push(() => registry.close());
  return registry;
}

const bytesOf = (size: number, seed: number) =>
  Uint8Array.from({ length: size }, (_, index) => (index * 31 + seed * 7) % 251);
const odd = '"é" \\u00e9 \\ / 😀 \u0000 \u2028 \ud800 {{ input }}\r\n';

/** Of everything that a registry keeps, some; two blobs that something names, and one that nothing does. */
async function fill(registry: Registry): Promise<string[]> {
  const [prefix, data] = [
    await registry.putBlob(bytesOf(70_000, 1)),
    await registry.putBlob(bytesOf(900, 2)),
  ];
  await registry.putBlob(bytesOf(10, 3));
  // A hyphen and a dot sort before what separates the parts of a key, in one store and not in the other.
  for (const id of ["t", "t-2", "t.3"]) {
    await registry.createTask({ ...newTask(id), description: odd }, hard(), "ann");
    await registry.addPrompt(id, { ...hard(odd), kind: "prefix", parameters: prefix, bytes: 7 });
    const third = await registry.addPrompt(id, hard(), { activate: { by: "ben" } });
    await registry.setActive(
      id,
      {
        split: [
          { prompt: 1, weight: 1 },
          { prompt: 2, weight: 0.1 },
        ],
      },
      "cid",
    );
    await registry.deletePrompt(id, third.version);
  }
  await registry.putDataset({ id: "d", rows: 3, bytes: 900, labels: null, sha256: data });
  await registry.putJob({ ...newJob("gone"), blobs: [data] });
  await registry.updateJob("gone", { state: "succeeded", ended_at: new Date().toISOString() });
  await registry.putJob({ ...newJob("open"), blobs: [data] });
  await registry.mark("library registered");
  return [prefix, data];
}

/** Each row as its line in an archive, sorted. */
const linesOf = async (registry: Registry) =>
  (await registry.snapshot(allOf)).map(({ key, row }) => JSON.stringify([key, row])).sort();
const ofOpenJobs = (line: string) => /"open"/.test(line);

async function restore(registry: Registry, file: string, options?: RestoreOptions): Promise<void> {
  const archive = await Archive.open(file);
  await archive.restore(registry, options).finally(() => archive.close());
}

const refusal = (work: Promise<unknown>): Promise<string> =>
  work.then(
    () => "taken",
    error => (error instanceof ForewordError && error.code === "validation" ? error.message : String(error)),
  );

describeRedis("from LMDB into Redis and back", () => {
  let redis: RedisServer;
  beforeAll(async () => {
    redis = await RedisServer.start();
  });
  afterAll(() => redis.remove());

  test("every row and every blob is what it was, and versions go on where they stood", async () => {
    const first = await lmdb("first");
    const blobs = await fill(first);
    const kept = (await linesOf(first)).filter(line => !ofOpenJobs(line));
    const one = join(folder, "one.zip");
    const manifest = await writeArchive(first, one);
    expect(manifest).toMatchObject({ tasks: 3, prompts: 6, datasets: 1, jobs: 1, blobs: 2 });
    expect(manifest).toMatchObject({ rows: { count: kept.length }, left_out: { open_jobs: 1 } });

    const middle = await openRedisRegistry(redis.url);
    closing.push(() => middle.close());
    await restore(middle, one);
    expect(await linesOf(middle)).toEqual(kept);
    expect(await refusal(writeArchive(middle, join(folder, "no/where.zip")))).toMatch(/can't be written/);
    await expect.poll(() => redis.admin.keys("{fw}:copy:*")).toEqual([]);

    const two = join(folder, "two.zip");
    expect((await writeArchive(middle, two)).left_out).toEqual({ open_jobs: 0 });
    const last = await lmdb("last");
    await restore(last, two);
    expect(await linesOf(last)).toEqual(kept);
    for (const registry of [middle, last])
      for (const sha256 of blobs)
        expect(
          createHash("sha256")
            .update(await registry.getBlob(sha256))
            .digest("hex"),
        ).toBe(sha256);

    // In Redis they are counted as named, so that no sweep takes them.
    expect(await redis.admin.hgetall("{fw}:names")).toEqual({ [blobs[0]!]: "3", [blobs[1]!]: "1" });
    for (const registry of [middle, last]) {
      expect((await registry.addPrompt("t", hard())).version).toBe(4);
      expect((await registry.listHistory("t-2")).items.map(({ by }) => by)).toEqual(["cid", "ben", "ann"]);
      expect((await registry.listJobs()).items.map(({ id, state }) => [id, state])).toEqual([
        ["gone", "succeeded"],
      ]);
      expect(await registry.openJobs()).toEqual([]);
      expect(await registry.marked("library registered")).toBe(true);
    }
  });

  test("in place of what is there, and other servers hear of it", async () => {
    await redis.admin.flushall();
    const source = await lmdb("source");
    await fill(source);
    const file = join(folder, "one.zip");
    await writeArchive(source, file);
    const [target, other] = await Promise.all([openRedisRegistry(redis.url), openRedisRegistry(redis.url)]);
    closing.push(
      () => target.close(),
      () => other.close(),
    );
    await target.createTask(newTask("old"), hard(), "ann");
    const notices: Notice[] = [];
    other.watch(notice => notices.push(notice));
    expect(await refusal(restore(target, file))).toMatch(/not empty, and nothing was changed.*--replace/);
    expect((await target.listTasks()).items.map(({ id }) => id)).toEqual(["old"]);
    const seen = new Set<string>();
    let restoring = true;
    const looking = (async () => {
      while (restoring) seen.add((await other.listTasks()).items.map(({ id }) => id).join(" "));
    })();
    await restore(target, file, { replace: true }).finally(() => {
      restoring = false;
    });
    await looking;
    // Never none of them, and never some.
    expect([...seen].filter(tasks => tasks !== "old" && tasks !== "t t-2 t.3")).toEqual([]);
    expect((await target.listTasks()).items.map(({ id }) => id)).toEqual(["t", "t-2", "t.3"]);
    await expect.poll(() => notices).toContainEqual({ kind: "reload" });
    expect(await redis.admin.keys("{fw}:new:*")).toEqual([]);
    for (const key of ["{fw}:task", "{fw}:task:order", "{fw}:names"])
      expect(await redis.admin.ttl(key)).toBe(-1);
  });
});

describe("archives", () => {
  test("hold one blob at a time, and are there when they are whole", async () => {
    const source = await lmdb("source");
    for (let at = 0; at < 20; at++) {
      const sha256 = await source.putBlob(bytesOf(100_000, at));
      await source.putDataset({ id: `d${at}`, rows: 1, bytes: 9, labels: null, sha256 });
    }
    let [open, most] = [0, 0];
    const watched: Registry = {
      ...source,
      getBlob: async sha256 => {
        most = Math.max(most, ++open);
        return source.getBlob(sha256).finally(() => open--);
      },
    };
    const file = join(folder, "one.zip");
    await writeArchive(watched, file);
    expect(most).toBe(1);
    expect(await refusal(writeArchive(source, file))).toMatch(/exists already/);

    const broken: Registry = { ...source, getBlob: () => Promise.reject(new Error("the disk is gone")) };
    await expect(writeArchive(broken, join(folder, "two.zip"))).rejects.toThrow("the disk is gone");
    expect((await readdir(folder)).sort()).toEqual(["one.zip", "source"]);
    expect(await refusal(writeArchive(source, join(folder, "no/where.zip")))).toMatch(/can't be written/);
  });

  test("that are cut off or changed are refused before anything is written", async () => {
    const source = await lmdb("source");
    await fill(source);
    const file = join(folder, "one.zip");
    await writeArchive(source, file);
    const whole = await readFile(file);
    const lines = (await linesOf(source)).filter(line => !ofOpenJobs(line));
    const target = await lmdb("target");
    const damaged = join(folder, "damaged.zip");
    const outcome = async (bytes: Uint8Array) => {
      await writeFile(damaged, bytes);
      return refusal(restore(target, damaged));
    };
    for (const part of [0, 0.1, 0.5, 0.9, 0.999])
      expect(await outcome(whole.subarray(0, Math.floor(part * whole.length)))).toMatch(
        /damaged or incomplete/,
      );
    expect(await outcome(Buffer.from("no archive at all, but a text of some length"))).toMatch(/damaged/);
    expect(await refusal(Archive.open(join(folder, "none.zip")))).toMatch(/can't be read \(ENOENT\)/);

    // A byte changed anywhere: refused, or nothing that the archive holds (a time, a checksum that is not ours).
    let refusals = 0;
    for (let at = 3; at < whole.length; at += Math.ceil(whole.length / 150)) {
      const changed = Uint8Array.from(whole);
      changed[at]! ^= 0x11;
      const said = await outcome(changed);
      if (said === "taken") {
        expect(await linesOf(target)).toEqual(lines);
        await target.replaceRows(inTurn([]));
      } else {
        refusals++;
        expect(said).toMatch(/damaged or incomplete|no archive of a registry|format that this version/);
      }
      expect(await target.isEmpty()).toBe(true);
    }
    expect(refusals).toBeGreaterThan(130);
    await restore(target, file);
    expect(await linesOf(target)).toEqual(lines);
  });

  test("by command: of a stopped server, of a backup, and not of one that runs", async () => {
    const data = join(folder, "data");
    const registry = await openLmdbRegistry(join(data, "registry"));
    await fill(registry);
    await registry.backup(join(folder, "copy"));
    const file = join(folder, "one.zip");
    const busy = await foreword(["export", file, "--data", data]);
    expect(busy.code).toBe(1);
    expect(busy.err).toMatch(/A server has this registry open \(process \d+\)\. Stop it.*backup.*--folder/);
    const backup = await foreword(["export", file, "--folder", join(folder, "copy"), "--json"]);
    expect(JSON.parse(backup.out)).toMatchObject({ tasks: 3, left_out: { open_jobs: 1 } });
    await registry.close();

    const other = join(folder, "other.zip");
    const exported = await foreword(["export", other, "--data", data]);
    expect(exported.out).toMatch(/3 tasks, 6 prompts, .*; left out: 1 jobs that have not ended\n$/);
    const elsewhere = join(folder, "elsewhere");
    const none = await foreword(["export", join(folder, "no.zip"), "--data", elsewhere]);
    expect(none.err).toMatch(/There is no registry in .*--folder/);
    const imported = await foreword(["import", other, "--data", elsewhere]);
    expect(imported.out).toMatch(/^3 tasks, 6 prompts, .* are there now\n$/);
    const again = await foreword(["import", other, "--data", elsewhere]);
    expect(again).toMatchObject({ code: 1, err: expect.stringMatching(/not empty.*--replace/) });
    expect((await foreword(["import", file, "--data", elsewhere, "--replace"])).code).toBe(0);
    const restored = await openLmdbRegistry(join(elsewhere, "registry"));
    expect((await restored.listTasks()).items).toHaveLength(3);
    await restored.close();
  });
});

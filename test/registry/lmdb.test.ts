import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import { once } from "node:events";
import { readdirSync } from "node:fs";
import { mkdir, mkdtemp, readdir, rm, truncate, utimes, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { open } from "lmdb";
import { afterAll, describe, expect, it } from "vitest";
import { openLmdbRegistry } from "../../src/registry/lmdb.ts";
import type { Registry } from "../../src/registry/registry.ts";
import { emptyDisk, fillDisk, fillsOwnDisk } from "../support/full-disk.ts";
import { describeUnless } from "../support/left-out.ts";
import { codeOf, registryContract } from "./contract.ts";
import { hard, newJob, newTask } from "./records.ts";

const hour = 3_600_000;
const folders: string[] = [];
async function freshFolder(): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), "foreword-registry-"));
  folders.push(folder);
  return folder;
}
afterAll(() => Promise.all(folders.map(folder => rm(folder, { recursive: true, force: true }))));

const prefix = (parameters: string) => ({ ...hard(), kind: "prefix" as const, parameters });

registryContract("lmdb", async () => openLmdbRegistry(await freshFolder()));

interface Acknowledged {
  task: string;
  version: number;
  parameters: string | null;
}

const writerPath = fileURLToPath(new URL("./writer.ts", import.meta.url));
function startWriter(
  folder: string,
  round: number,
  under: readonly string[] = [],
): { child: ChildProcess; acknowledged: Acknowledged[] } {
  const command = [...under, process.execPath, "--import", "tsx", writerPath, folder, `${round}`];
  const child = spawn(command[0]!, command.slice(1), { stdio: ["ignore", "pipe", "inherit"] });
  const acknowledged: Acknowledged[] = [];
  createInterface({ input: child.stdout! }).on("line", line => acknowledged.push(JSON.parse(line)));
  return { child, acknowledged };
}

async function until(condition: () => boolean): Promise<void> {
  while (!condition()) await new Promise(resolve => setTimeout(resolve, 5));
}

/** Every record agrees with every other: nothing is half-written. */
async function expectConsistent(registry: Registry): Promise<void> {
  for (const task of (await registry.listTasks({ limit: 1000 })).items) {
    const { items: prompts, next_cursor } = await registry.listPrompts(task.id, { limit: 1000 });
    expect(next_cursor).toBeNull();
    expect(prompts.map(prompt => prompt.version)).toEqual(prompts.map((_, at) => at + 1));
    expect(task.prompts).toBe(prompts.length);
    expect(task.active).toEqual({ prompt: prompts.length });
    const history = (await registry.listHistory(task.id, { limit: 1000 })).items;
    expect(history.map(entry => entry.active)).toEqual(
      prompts.map(prompt => ({ prompt: prompt.version })).reverse(),
    );
    for (const { parameters } of prompts) if (parameters) await registry.getBlob(parameters);
  }
  let seq = 0;
  for (let batch = await registry.changes(0); batch.changes.length; batch = await registry.changes(seq))
    for (const change of batch.changes) expect(change.seq).toBe(++seq);
}

describe("lmdb: durability", () => {
  it("loses nothing in a restart", async () => {
    const folder = await freshFolder();
    const before = await openLmdbRegistry(folder);
    const make = (registry: Registry) =>
      registry.createTask(newTask("t"), hard(), "ann", undefined, { commit: "c" });
    await make(before);
    const job = await before.putJob(newJob("j"));
    const blob = await before.putBlob(new Uint8Array([1, 2, 3]));
    await before.mark("done");
    await before.remember("k", "h", { status: 201, headers: {}, body: 1 }, "ann");
    const [task, changes] = [await before.getTask("t"), await before.changes(0)];
    await before.close();
    const after = await openLmdbRegistry(folder);
    expect(await after.getTask("t")).toEqual(task);
    expect(await make(after)).toEqual(task);
    expect(await after.getJob("j")).toEqual(job);
    expect([...(await after.getBlob(blob))]).toEqual([1, 2, 3]);
    expect(await after.marked("done")).toBe(true);
    expect(await after.recall("k", "h")).toMatchObject({ body: 1 });
    expect(await after.changes(0)).toEqual(changes);
    expect((await after.addPrompt("t", hard())).version).toBe(2);
    await after.close();
  });

  it("keeps every acknowledged write of a process that is killed, and no half of another", async () => {
    const folder = await freshFolder();
    const all: Acknowledged[] = [];
    for (let round = 0; round < 4; round++) {
      const { child, acknowledged } = startWriter(folder, round);
      const goal = 5 + round * 17;
      await until(() => acknowledged.length >= goal || child.exitCode !== null);
      const closed = once(child, "close");
      child.kill("SIGKILL");
      expect((await closed)[1]).toBe("SIGKILL");
      expect(acknowledged.length).toBeGreaterThanOrEqual(goal);
      all.push(...acknowledged);
      // Taken over from the dead process at once.
      const registry = await openLmdbRegistry(folder);
      for (const { task, version, parameters } of all)
        expect((await registry.getPrompt(task, version)).parameters).toBe(parameters);
      await expectConsistent(registry);
      await registry.close();
    }
  });

  it("refuses a folder that another process or this one holds", async () => {
    const folder = await freshFolder();
    const { child, acknowledged } = startWriter(folder, 0);
    await until(() => acknowledged.length > 0);
    const second = openLmdbRegistry(folder);
    await expect(second).rejects.toMatchObject({ code: "registry_unavailable" });
    await expect(second).rejects.toThrow(`process ${child.pid}`);
    const count = acknowledged.length;
    await until(() => acknowledged.length > count + 3);
    const closed = once(child, "close");
    child.kill("SIGKILL");
    await closed;
    const registry = await openLmdbRegistry(folder);
    expect(await codeOf(openLmdbRegistry(folder))).toBe("registry_unavailable");
    expect(await registry.getTask("r0-0")).toMatchObject({ id: "r0-0" });
    await registry.close();
    await (await openLmdbRegistry(folder)).close();
  });

  it("backs up a consistent registry while writes go on", async () => {
    const registry = await openLmdbRegistry(await freshFolder());
    await registry.createTask(newTask("t"), hard(), "ann");
    let writing = true;
    const writer = (async () => {
      for (let at = 0; writing; at++) {
        const parameters = await registry.putBlob(new TextEncoder().encode(`blob ${at}`));
        const prompt = { ...hard(), kind: "prefix" as const, parameters };
        await registry.addPrompt("t", prompt, { activate: { by: "ann" } });
      }
    })();
    await new Promise(resolve => setTimeout(resolve, 100));
    const before = (await registry.getTask("t")).prompts;
    const target = join(await freshFolder(), "copy");
    await registry.backup(target);
    const after = (await registry.getTask("t")).prompts;
    writing = false;
    await writer;
    const copy = await openLmdbRegistry(target);
    const copied = (await copy.getTask("t")).prompts;
    expect(copied).toBeGreaterThanOrEqual(before);
    expect(copied).toBeLessThanOrEqual(after);
    expect(before).toBeGreaterThan(1);
    await expectConsistent(copy);
    expect((await copy.addPrompt("t", hard())).version).toBe(copied + 1);
    await copy.close();
    await registry.close();
  });

  it("answers registry_unavailable where a blob's folder can't be made", async () => {
    const folder = await freshFolder();
    const registry = await openLmdbRegistry(folder);
    const bytes = new Uint8Array([1, 2, 3]);
    const place = createHash("sha256").update(bytes).digest("hex").slice(0, 2);
    await writeFile(join(folder, "blobs", place), "no folder");
    await expect(registry.putBlob(bytes)).rejects.toMatchObject({
      code: "registry_unavailable",
      message: expect.stringMatching(/disk has room/),
    });
    await rm(join(folder, "blobs", place));
    expect([...(await registry.getBlob(await registry.putBlob(bytes)))]).toEqual([1, 2, 3]);
    await registry.close();
  });

  it("answers registry_unavailable for a damaged blob and a damaged store", async () => {
    const folder = await freshFolder();
    const registry = await openLmdbRegistry(folder);
    const blob = await registry.putBlob(new Uint8Array(100));
    await truncate(join(folder, "blobs", blob.slice(0, 2), blob), 50);
    expect(await codeOf(registry.getBlob(blob))).toBe("registry_unavailable");
    expect(await registry.putBlob(new Uint8Array(100))).toBe(blob);
    expect([...(await registry.getBlob(blob))]).toEqual([...new Uint8Array(100)]);
    await registry.close();
    const broken = await freshFolder();
    await writeFile(join(broken, "registry.lmdb"), "no database ".repeat(1000));
    expect(await codeOf(openLmdbRegistry(broken))).toBe("registry_unavailable");
  });
});

describe("lmdb: a folder that another has taken over", () => {
  it("is given up by the one that stood still, and stays the other's", async () => {
    const folder = await freshFolder();
    const registry = await openLmdbRegistry(folder);
    await registry.createTask(newTask("t"), hard(), "ann");
    const warning = once(process, "warning");
    const file = open({ path: join(folder, "registry.lmdb"), noSubdir: true, encoding: "json" });
    const other = { ...(file.get(["owner"]) as object), token: "another's" };
    await file.put(["owner"], other);
    for (const call of [
      () => registry.addPrompt("t", hard()),
      () => registry.getTask("t"),
      () => registry.putBlob(new Uint8Array(1)),
    ])
      await expect(call()).rejects.toMatchObject({
        code: "registry_unavailable",
        message: expect.stringMatching(/Another process has taken over the data folder/),
      });
    expect(registry.reachable()).toBe(false);
    expect((await warning)[0].message).toMatch(/taken over/);
    await registry.close();
    expect(file.get(["owner"])).toEqual(other);
    expect(file.get(["task", "t"])).toMatchObject({ prompts: 1 });
    await file.close();
  });
});

/** As in a container: a process that can't be seen from here, and is number 1 where it is. */
const contained = ["unshare", "-Ur", "--pid", "--fork", "--mount-proc", "--kill-child"];
const inContainers = spawnSync(contained[0]!, [...contained.slice(1), "true"]).status === 0;

describeUnless(inContainers ? null : "unshare makes no namespaces here.", "lmdb: containers", () => {
  it("tells one that holds a folder from one that was killed a moment ago, whose folder is taken over", async () => {
    const folder = await freshFolder();
    const { child, acknowledged } = startWriter(folder, 0, contained);
    await until(() => acknowledged.length > 0 || child.exitCode !== null);
    const refusal = await openLmdbRegistry(folder).catch(error => error);
    expect(refusal).toMatchObject({ code: "registry_unavailable", fields: { holder: "another container" } });
    expect(refusal.message).toMatch(/in use by another container; stop that one/);
    expect(child.exitCode).toBeNull();
    const closed = once(child, "close");
    child.kill("SIGKILL");
    await closed;
    const began = Date.now();
    const opening = [openLmdbRegistry(folder), openLmdbRegistry(folder)];
    const settled = await Promise.allSettled(opening);
    expect(Date.now() - began).toBeLessThan(22_000);
    expect(settled.map(({ status }) => status).sort()).toEqual(["fulfilled", "rejected"]);
    for (const outcome of settled) {
      if (outcome.status === "rejected") expect(outcome.reason.message).toMatch(`process ${process.pid}`);
      else {
        expect(await outcome.value.getTask("r0-0")).toMatchObject({ id: "r0-0" });
        await outcome.value.close();
      }
    }
  }, 60_000);
});

describe("lmdb: a full disk", () => {
  fillsOwnDisk();

  it("refuses to make a registry, where LMDB itself would end the process", async () => {
    const folder = await freshFolder();
    await fillDisk(process.pid, 1);
    await expect(openLmdbRegistry(folder)).rejects.toMatchObject({ code: "registry_unavailable" });
    await emptyDisk(process.pid);
    await (await openLmdbRegistry(folder)).close();
  });

  it("backs up nothing, says why, and does so under the same name when there is room", async () => {
    const registry = await openLmdbRegistry(await freshFolder());
    const bytes = new Uint8Array(1_000_000).map((_, at) => at * 7);
    const parameters = await registry.putBlob(bytes);
    await registry.createTask(newTask("t"), prefix(parameters), "ann");
    const parent = await freshFolder();
    const target = join(parent, "copy");
    // The first is too little for the rows, the second for the blob alone.
    for (const room of [1, 500_000]) {
      await fillDisk(process.pid, room);
      await expect(registry.backup(target)).rejects.toMatchObject({
        code: "registry_unavailable",
        message: expect.stringMatching(/disk has room/),
      });
      await emptyDisk(process.pid);
      expect(await readdir(parent)).toEqual([]);
    }
    await registry.backup(target);
    const copy = await openLmdbRegistry(target);
    expect(Buffer.compare(await copy.getBlob(parameters), bytes)).toBe(0);
    await Promise.all([copy.close(), registry.close()]);
  });
});

describe("lmdb: backups", () => {
  const uuid = "0b6ff5d9-2f4c-4f0c-9f63-5a5b0a1f0c11";
  const filesOf = async (folder: string) =>
    (await readdir(folder, { recursive: true, withFileTypes: true })).filter(file => file.isFile());

  it("that a process was killed over are no backups, and in no later one's way", async () => {
    const folder = await freshFolder();
    const registry = await openLmdbRegistry(folder);
    const parameters = await registry.putBlob(new Uint8Array([1, 2, 3]));
    await registry.createTask(newTask("t"), prefix(parameters), "ann");
    await registry.close();
    // As many as take a while to copy.
    const names = Array.from({ length: 5000 }, (_, at) => createHash("sha256").update(`${at}`).digest("hex"));
    for (const name of names) {
      await mkdir(join(folder, "blobs", name.slice(0, 2)), { recursive: true });
      await writeFile(join(folder, "blobs", name.slice(0, 2), name), name);
    }
    const parent = await freshFolder();
    const target = join(parent, "copy");
    const copier = fileURLToPath(new URL("./copier.ts", import.meta.url));
    const child = spawn(process.execPath, ["--import", "tsx", copier, folder, target], { stdio: "inherit" });
    const blobs = () =>
      readdirSync(parent, { recursive: true }).filter(file => /blobs.*[0-9a-f]{64}$/.test(String(file)));
    await until(() => blobs().length > 0 || child.exitCode !== null);
    const closed = once(child, "close");
    child.kill("SIGKILL");
    expect((await closed)[1]).toBe("SIGKILL");
    expect(blobs().length).toBeLessThan(5001);

    const [left, ...others] = await readdir(parent);
    expect(others).toEqual([]);
    expect(left).toMatch(/^\.copy\./);
    await expect(openLmdbRegistry(join(parent, left!))).rejects.toMatchObject({
      code: "registry_unavailable",
      message: expect.stringMatching(/never finished/),
    });
    const again = await openLmdbRegistry(folder);
    await again.backup(target);
    await again.close();
    expect(await filesOf(join(target, "blobs"))).toHaveLength(5001);
    const copy = await openLmdbRegistry(target);
    expect([...(await copy.getBlob(parameters))]).toEqual([1, 2, 3]);
    await copy.close();
  });

  it("clear away what a dead writer left, and nothing that one may still write", async () => {
    const registry = await openLmdbRegistry(await freshFolder());
    const parent = await freshFolder();
    const [silent, alive, chosen] = [`.old.${uuid}.partial`, `.new.${uuid}.partial`, "x.partial"];
    const past = new Date(Date.now() - hour);
    for (const name of [silent, alive, chosen]) {
      const blobs = join(parent, name, "blobs");
      await mkdir(blobs, { recursive: true });
      await writeFile(join(blobs, "blob"), "half");
      for (const path of [join(blobs, "blob"), blobs, join(parent, name)]) await utimes(path, past, past);
    }
    // Its writer is at a long file.
    await writeFile(join(parent, alive, "blobs", "blob"), "more than half");
    await registry.backup(join(parent, "copy"));
    expect((await readdir(parent)).sort()).toEqual([alive, "copy", chosen].sort());
    await registry.close();
  });
});

describe("lmdb: sweep", () => {
  it("removes blobs that nothing names once they are an hour old, and expired replies", async () => {
    const folder = await freshFolder();
    let skipped = 0;
    const registry = await openLmdbRegistry(folder, { now: () => Date.now() + skipped });
    const put = (text: string) => registry.putBlob(new TextEncoder().encode(text));
    const [ofPrompt, ofDataset, ofJob, unnamed] = [
      await put("prompt"),
      await put("dataset"),
      await put("job"),
      await put("unnamed"),
    ];
    await registry.createTask(newTask("t"), { ...hard(), kind: "prefix", parameters: ofPrompt }, "ann");
    await registry.putDataset({ id: "d", rows: 1, labels: null, sha256: ofDataset, bytes: 7 });
    await registry.putJob({ ...newJob("j"), blobs: [ofJob] }, { commit: "c" });
    await registry.remember("k", "h", { status: 201, headers: {}, body: null }, "ann");
    await writeFile(join(folder, "blobs", unnamed.slice(0, 2), ".left-by-a-dead-writer"), "half");

    expect(await registry.sweep()).toEqual({ blobs: 0, replies: 0 });
    skipped = 1.1 * hour;
    expect(await registry.sweep()).toEqual({ blobs: 2, replies: 0 });
    expect(await codeOf(registry.getBlob(unnamed))).toBe("registry_unavailable");
    for (const blob of [ofPrompt, ofDataset, ofJob]) await registry.getBlob(blob);

    await registry.deleteTask("t");
    await registry.deleteDataset("d");
    await registry.updateJob("j", { state: "succeeded", ended_at: new Date().toISOString() });
    expect((await registry.recall("k", "h"))?.status).toBe(201);
    skipped = 24.1 * hour;
    expect(await registry.recall("k", "h")).toBeNull();
    expect(await registry.recall("k", "another")).toBeNull();
    expect(await registry.sweep()).toEqual({ blobs: 3, replies: 1 });
    expect((await registry.putJob(newJob("another"), { commit: "c" })).id).toBe("another");
    const files = await readdir(join(folder, "blobs"), { recursive: true, withFileTypes: true });
    expect(files.filter(file => file.isFile())).toEqual([]);
    await registry.close();
  });
});

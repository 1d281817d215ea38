/** What every registry promises, whatever it is built on. `open` gives an empty one; it is closed after each test. */
import { createHash } from "node:crypto";
import { existsSync } from "node:fs";
import { type FileHandle, mkdtemp, open as openFile, readdir, readlink, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { ForewordError } from "../../src/errors.ts";
import { openLmdbRegistry } from "../../src/registry/lmdb.ts";
import type { NewPrompt, Notice, Registry } from "../../src/registry/registry.ts";
import type { Row } from "../../src/registry/store.ts";
import { allOf, hard, inTurn, later, newJob, newTask } from "./records.ts";

const bytesOf = (text: string) => new TextEncoder().encode(text);
const sha256 = (bytes: Uint8Array) => createHash("sha256").update(bytes).digest("hex");

/** The code that a refusal carries, or what came instead. */
export async function codeOf(promise: Promise<unknown>): Promise<unknown> {
  return promise.then(
    value => ({ resolved: value }),
    error => (error instanceof ForewordError ? error.code : error),
  );
}

async function walk<Item>(
  list: (page: { limit: number; cursor?: string }) => Promise<{ items: Item[]; next_cursor: string | null }>,
  limit: number,
): Promise<Item[][]> {
  const pages: Item[][] = [];
  let cursor: string | null | undefined;
  do {
    const page: { items: Item[]; next_cursor: string | null } = await list({
      limit,
      ...(cursor && { cursor }),
    });
    pages.push(page.items);
    cursor = page.next_cursor;
  } while (cursor);
  return pages;
}

export function registryContract(name: string, open: () => Promise<Registry>): void {
  describe(`${name}: the registry's contract`, () => {
    let registry: Registry;
    beforeEach(async () => {
      registry = await open();
    });
    afterEach(() => registry.close());

    it("creates a task with its first prompt and active record in one write", async () => {
      const task = await registry.createTask(newTask("t"), hard(), "ann");
      expect(task).toMatchObject({
        id: "t",
        active: { prompt: 1 },
        revision: 1,
        active_revision: 1,
        prompts: 1,
      });
      expect(new Date(task.created_at).toISOString()).toBe(task.created_at);
      expect(await registry.getTask("t")).toEqual(task);
      expect(await registry.getPrompt("t", 1)).toMatchObject({ task: "t", version: 1, ...hard() });
      const history = await registry.listHistory("t");
      expect(history.items).toEqual([{ revision: 1, active: { prompt: 1 }, by: "ann", at: task.created_at }]);
    });

    it("keeps any text as it was", async () => {
      const description = '"é" \\u00e9 \\ / 😀 \u0000 \u2028 \ud800 {{ input }} %d\n';
      await registry.createTask({ ...newTask("t"), description }, hard(description), "ann");
      expect((await registry.getTask("t")).description).toBe(description);
      expect((await registry.patchTask("t", { labels: ["a", "b"] })).description).toBe(description);
      expect((await registry.getPrompt("t", 1)).template).toBe(description);
    });

    it("leaves nothing of a task whose creation is refused", async () => {
      const feed = (await registry.changes(0)).last;
      expect(await codeOf(registry.createTask(newTask("t"), hard(), "ann", { prompt: 2 }))).toBe(
        "prompt_not_found",
      );
      expect(await codeOf(registry.getTask("t"))).toBe("task_not_found");
      expect((await registry.changes(0)).last).toBe(feed);
      const made = await registry.createTask(newTask("t"), null, "ann");
      expect(made).toMatchObject({ active: null, active_revision: 0, prompts: 0 });
      expect((await registry.listPrompts("t")).items).toEqual([]);
    });

    it("creates a task once, however many try at once", async () => {
      const tries = await Promise.all(
        Array.from({ length: 10 }, () => codeOf(registry.createTask(newTask("t"), hard(), "ann"))),
      );
      expect(tries.filter(code => code === "task_exists")).toHaveLength(9);
      expect(await registry.getTask("t")).toMatchObject({ prompts: 1 });
    });

    it("patches with an expected revision; of racing patches exactly one wins", async () => {
      await registry.createTask(newTask("t"), null, "ann");
      const patched = await registry.patchTask("t", { description: "d" }, { expected: 1 });
      expect(patched).toMatchObject({ description: "d", revision: 2, labels: ["spam", "not_spam"] });
      const stale = registry.patchTask("t", { description: "x" }, { expected: 1 });
      await expect(stale).rejects.toMatchObject({
        code: "revision_conflict",
        fields: { expected: 1, actual: 2 },
      });
      const racing = await Promise.all(
        Array.from({ length: 20 }, (_, at) =>
          codeOf(registry.patchTask("t", { description: `${at}` }, { expected: 2 })),
        ),
      );
      expect(racing.filter(code => code === "revision_conflict")).toHaveLength(19);
      expect((await registry.getTask("t")).revision).toBe(3);
      expect(await codeOf(registry.patchTask("none", { description: "" }))).toBe("task_not_found");
    });

    it("gives 50 parallel prompts 50 consecutive versions, and never one of them again", async () => {
      await registry.createTask(newTask("t"), null, "ann");
      const added = await Promise.all(
        Array.from({ length: 50 }, (_, at) => registry.addPrompt("t", hard(`${at} {{ input }}`))),
      );
      const versions = added.map(prompt => prompt.version).sort((a, b) => a - b);
      expect(versions).toEqual(Array.from({ length: 50 }, (_, at) => at + 1));
      for (const prompt of added) expect(await registry.getPrompt("t", prompt.version)).toEqual(prompt);
      await registry.deletePrompt("t", 50);
      expect(await codeOf(registry.getPrompt("t", 50))).toBe("prompt_not_found");
      expect((await registry.addPrompt("t", hard())).version).toBe(51);
      expect((await registry.getTask("t")).prompts).toBe(50);
      expect(await codeOf(registry.addPrompt("none", hard()))).toBe("task_not_found");
    });

    it("activates with the adding where asked", async () => {
      await registry.createTask(newTask("t"), hard(), "ann");
      await registry.addPrompt("t", hard(), { activate: { by: "bob" } });
      expect(await registry.getTask("t")).toMatchObject({ active: { prompt: 2 }, active_revision: 2 });
      expect((await registry.listHistory("t")).items.map(entry => entry.by)).toEqual(["bob", "ann"]);
    });

    it("keeps the task's doubts when another prompt is activated with its adding, and nothing fitted", async () => {
      await registry.createTask(newTask("t"), hard(), "ann");
      await registry.setActive("t", { prompt: 1, unsure_below: 0.6, temperature: 2 }, "ann");
      await registry.addPrompt("t", hard(), { activate: { by: "bob" } });
      expect((await registry.getTask("t")).active).toEqual({ prompt: 2, unsure_below: 0.6 });
      await registry.setActive(
        "t",
        { ensemble: [1, 2], unsure_below: 0.5, agreement_below: 0.7, vote: "majority" },
        "ann",
      );
      await registry.addPrompt("t", hard(), { activate: { by: "bob" } });
      expect((await registry.getTask("t")).active).toEqual({ prompt: 3, unsure_below: 0.5 });
    });

    it("adds a prompt of one name and parameters once where asked, however many try", async () => {
      const parameters = await registry.putBlob(bytesOf("parameters"));
      await registry.createTask(newTask("t"), hard(), "ann");
      const named = { ...hard(), kind: "prefix" as const, name: "bundled", parameters };
      const tries = Array.from({ length: 10 }, () =>
        registry.addPrompt("t", named, { activate: { by: "ann" }, once: true }),
      );
      const added = await Promise.all(tries);
      expect(new Set(added.map(({ version }) => version))).toEqual(new Set([2]));
      expect(await registry.getTask("t")).toMatchObject({ prompts: 2, active_revision: 2 });
      expect((await registry.addPrompt("t", { ...named, name: "other" }, { once: true })).version).toBe(3);
      expect((await registry.addPrompt("t", named)).version).toBe(4);
    });

    it("refuses a prompt whose parameters are not there", async () => {
      await registry.createTask(newTask("t"), null, "ann");
      const prompt: NewPrompt = { ...hard(), kind: "prefix", parameters: sha256(bytesOf("absent")) };
      expect(await codeOf(registry.addPrompt("t", prompt))).toBe("registry_unavailable");
      expect((await registry.getTask("t")).prompts).toBe(0);
      expect((await registry.addPrompt("t", hard())).version).toBe(1);
    });

    it("keeps a prompt while the active record names it", async () => {
      await registry.createTask(newTask("t"), hard(), "ann");
      for (let at = 2; at <= 6; at++) await registry.addPrompt("t", hard());
      const records = [
        [{ prompt: 1 }, [1]],
        [{ ensemble: [2, 3], vote: "mean" as const }, [2, 3]],
        [
          {
            split: [
              { prompt: 4, weight: 1 },
              { prompt: 5, weight: 1 },
            ],
          },
          [4, 5],
        ],
        [{ prompt: 1, shadow: { prompt: 6, share: 0.5 } }, [1, 6]],
      ] as const;
      for (const [active, used] of records) {
        await registry.setActive("t", structuredClone(active) as never, "ann");
        for (const version of used)
          expect(await codeOf(registry.deletePrompt("t", version))).toBe("prompt_in_use");
      }
      await registry.setActive("t", null, "ann");
      await registry.deletePrompt("t", 6);
      expect(await codeOf(registry.deletePrompt("t", 6))).toBe("prompt_not_found");
    });

    it("sets the active record by its own revision, and lists history newest first", async () => {
      await registry.createTask(newTask("t"), hard(), "ann");
      await registry.addPrompt("t", hard());
      const set = await registry.setActive("t", { prompt: 2, temperature: 2 }, "bob", { expected: 1 });
      expect(set).toMatchObject({ active: { prompt: 2, temperature: 2 }, active_revision: 2, revision: 1 });
      await expect(registry.setActive("t", { prompt: 1 }, "bob", { expected: 1 })).rejects.toMatchObject({
        code: "revision_conflict",
        fields: { expected: 1, actual: 2 },
      });
      expect(await codeOf(registry.setActive("t", { ensemble: [1, 9] }, "bob"))).toBe("prompt_not_found");
      const racing = await Promise.all(
        Array.from({ length: 10 }, () => codeOf(registry.setActive("t", null, "eve", { expected: 2 }))),
      );
      expect(racing.filter(code => code === "revision_conflict")).toHaveLength(9);
      const pages = await walk(page => registry.listHistory("t", page), 2);
      expect(pages.map(page => page.map(entry => [entry.revision, entry.by]))).toEqual([
        [
          [3, "eve"],
          [2, "bob"],
        ],
        [[1, "ann"]],
      ]);
    });

    it("deletes a task with its prompts and history; one of the same name starts anew", async () => {
      await registry.createTask(newTask("t"), hard("old {{ input }}"), "ann");
      await registry.createTask(newTask("t.2"), hard("other {{ input }}"), "ann");
      await registry.addPrompt("t", hard());
      expect(await codeOf(registry.deleteTask("t", { expected: 7 }))).toBe("revision_conflict");
      await registry.deleteTask("t");
      for (const call of [
        registry.getTask("t"),
        registry.getPrompt("t", 1),
        registry.listPrompts("t"),
        registry.listHistory("t"),
        registry.deleteTask("t"),
      ])
        expect(await codeOf(call)).toBe("task_not_found");
      expect(await registry.createTask(newTask("t"), null, "bob")).toMatchObject({
        prompts: 0,
        active: null,
      });
      expect((await registry.listPrompts("t")).items).toEqual([]);
      expect((await registry.listHistory("t")).items).toEqual([]);
      expect(await codeOf(registry.getPrompt("t", 1))).toBe("prompt_not_found");
      expect((await registry.getPrompt("t.2", 1)).template).toBe("other {{ input }}");
    });

    it("reads and changes a task as the one that is meant, and none of its name that came later", async () => {
      const { created_at: born } = await registry.createTask(newTask("t"), hard(), "ann");
      expect((await registry.getTask("t", { born })).id).toBe("t");
      expect((await registry.addPrompt("t", hard(), { born })).version).toBe(2);
      expect((await registry.setActive("t", { prompt: 2 }, "ann", { born })).active).toEqual({ prompt: 2 });
      await registry.deleteTask("t");
      await later(born);
      const made = await registry.createTask(newTask("t"), hard(), "ann");
      for (const call of [
        registry.getTask("t", { born }),
        registry.addPrompt("t", hard(), { born }),
        registry.setActive("t", null, "ann", { born }),
      ])
        expect(await codeOf(call)).toBe("task_not_found");
      expect(await registry.getTask("t")).toEqual(made);
      expect((await registry.addPrompt("t", hard(), { born: made.created_at })).version).toBe(2);
    });

    it("lists by pages, each item once, in order, and refuses foreign cursors", async () => {
      const ids = ["a", "a-b", "a.b", "a0", "b", "z9"];
      for (const id of [...ids].reverse()) await registry.createTask(newTask(id), null, "ann");
      const pages = await walk(page => registry.listTasks(page), 4);
      expect(pages.map(page => page.length)).toEqual([4, 2]);
      expect(pages.flat().map(task => task.id)).toEqual(ids);
      expect(await walk(page => registry.listTasks(page), 6)).toHaveLength(1);
      for (let at = 0; at < 12; at++) await registry.addPrompt("b", hard());
      const prompts = (await walk(page => registry.listPrompts("b", page), 5)).flat();
      expect(prompts.map(prompt => prompt.version)).toEqual(Array.from({ length: 12 }, (_, at) => at + 1));
      const { next_cursor } = await registry.listTasks({ limit: 1 });
      expect(await codeOf(registry.listDatasets({ cursor: next_cursor! }))).toBe("validation");
      expect(await codeOf(registry.listTasks({ cursor: "%%%" }))).toBe("validation");
      expect(await codeOf(registry.listTasks({ limit: 0 }))).toBe("validation");
    });

    it("takes a cursor that an id of 64 characters gave, and refuses a longer one, which it never gave", async () => {
      const [first, second] = ["a", "b"].map(letter => letter.repeat(64)) as [string, string];
      for (const id of [first, second]) await registry.createTask(newTask(id), null, "ann");
      const { next_cursor } = await registry.listTasks({ limit: 1 });
      expect((await registry.listTasks({ cursor: next_cursor! })).items.map(({ id }) => id)).toEqual([
        second,
      ]);
      for (const length of [65, 5000]) {
        const cursor = Buffer.from(JSON.stringify(["tasks", "a".repeat(length)])).toString("base64url");
        await expect(registry.listTasks({ cursor })).rejects.toMatchObject({
          code: "validation",
          fields: { field: "cursor" },
        });
      }
    });

    it("gives one name to one backup, whole, of those that are made at once", async () => {
      const parent = await mkdtemp(join(tmpdir(), "foreword-backups-"));
      const target = join(parent, "copy");
      const parameters = await registry.putBlob(bytesOf("parameters"));
      await registry.createTask(newTask("t"), { ...hard(), kind: "prefix", parameters }, "ann");
      const codes = await Promise.all([1, 2, 3].map(() => codeOf(registry.backup(target))));
      expect(codes.filter(code => code === "validation")).toHaveLength(2);
      await expect(registry.backup(target)).rejects.toMatchObject({
        message: "name: there is a backup copy already. Choose another name.",
        fields: { field: "name" },
      });
      expect(await readdir(parent)).toEqual(["copy"]);
      const copy = await openLmdbRegistry(target);
      expect(await copy.getPrompt("t", 1)).toMatchObject({ parameters });
      expect(Buffer.from(await copy.getBlob(parameters)).toString()).toBe("parameters");
      await copy.close();
      await rm(parent, { recursive: true });
    });

    it("has all of a backup on disk, and its name, before it says that there is one", async () => {
      const top = await mkdtemp(join(tmpdir(), "foreword-backups-"));
      const parent = join(top, "made", "for it");
      const parameters = await registry.putBlob(bytesOf("parameters"));
      await registry.createTask(newTask("t"), { ...hard(), kind: "prefix", parameters }, "ann");
      const handle = await openFile(top);
      const sync = vi.spyOn(Object.getPrototypeOf(handle) as FileHandle, "sync");
      const synced: { path: string; named: boolean }[] = [];
      sync.mockImplementation(async function (this: FileHandle) {
        const path = await readlink(`/proc/self/fd/${this.fd}`);
        synced.push({ path, named: existsSync(join(parent, "copy")) });
      });
      await registry.backup(join(parent, "copy"));
      sync.mockRestore();
      await handle.close();
      const before = synced.filter(({ named }) => !named).map(({ path }) => path);
      const whole = before.map(path => path.replace(/\.copy\.[^/]*\.partial/, "copy"));
      const files = await readdir(join(parent, "copy"), { recursive: true });
      expect(files).toContain(join("blobs", parameters.slice(0, 2), parameters));
      for (const file of [...files, "."]) expect(whole).toContain(join(parent, "copy", file));
      expect(before).toEqual(expect.arrayContaining([top, join(top, "made")]));
      expect(synced.at(-1)).toEqual({ path: parent, named: true });
      await rm(top, { recursive: true });
    });

    it("keeps data sets", async () => {
      const bytes = bytesOf('{"input":"x","label":"spam"}\n');
      const blob = await registry.putBlob(bytes);
      const dataset = { id: "d", rows: 1, labels: { spam: 1 }, sha256: blob, bytes: bytes.length };
      const put = await registry.putDataset(dataset);
      expect(await registry.getDataset("d")).toEqual(put);
      expect(put).toMatchObject(dataset);
      expect((await registry.listDatasets()).items).toEqual([put]);
      expect(await codeOf(registry.putDataset({ ...dataset, sha256: sha256(bytesOf("absent")) }))).toBe(
        "registry_unavailable",
      );
      await registry.deleteDataset("d");
      expect(await codeOf(registry.getDataset("d"))).toBe("dataset_not_found");
      expect(await codeOf(registry.deleteDataset("d"))).toBe("dataset_not_found");
    });

    it("keeps jobs: newest first, by task, compare and set", async () => {
      for (const [id, task] of [
        ["j1", "a"],
        ["j3", "b"],
        ["j2", "a"],
      ] as const)
        await registry.putJob(newJob(id, task));
      expect(await codeOf(registry.putJob(newJob("j1")))).toBe("validation");
      const listed = (await walk(page => registry.listJobs(page), 2)).flat();
      expect(listed.map(job => job.id)).toEqual(["j2", "j3", "j1"]);
      const ofA = (await walk(page => registry.listJobs({ ...page, task: "a" }), 1)).flat();
      expect(ofA.map(job => job.id)).toEqual(["j2", "j1"]);
      expect(await registry.openJobs()).toEqual([
        { id: "j1", task: "a" },
        { id: "j3", task: "b" },
        { id: "j2", task: "a" },
      ]);
      const running = await registry.updateJob("j1", { state: "running" }, { expected: 1 });
      expect(running).toMatchObject({ state: "running", revision: 2, request: { steps: 3 } });
      const racing = await Promise.all(
        Array.from({ length: 10 }, () =>
          codeOf(registry.updateJob("j1", { state: "cancelled" }, { expected: 2 })),
        ),
      );
      expect(racing.filter(code => code === "revision_conflict")).toHaveLength(9);
      expect((await registry.getJob("j1")).state).toBe("cancelled");
      const ended_at = new Date().toISOString();
      await registry.updateJob("j3", { state: "failed", ended_at });
      expect((await registry.openJobs()).map(job => job.id)).toEqual(["j1", "j2"]);
      expect(await codeOf(registry.getJob("none"))).toBe("job_not_found");
      expect(await codeOf(registry.updateJob("none", {}))).toBe("job_not_found");
    });

    it("finds a task's jobs among thousands of others", async () => {
      const { revision, ...given } = await registry.putJob(newJob("j", "others"));
      const mine = new Set([1, 1200, 2500]);
      const orders = Array.from({ length: 2600 }, (_, at) => at + 1);
      const rows = orders.flatMap((order): Row[] => {
        const [id, task] = [`j${order}`, mine.has(order) ? "mine" : "others"];
        return [
          { key: ["job", id], row: { ...given, id, task, revision } },
          { key: ["job-order", order], row: { order, id, task } },
        ];
      });
      await registry.replaceRows(inTurn(rows));
      for (const limit of [1, 2, 3]) {
        const pages = await walk(page => registry.listJobs({ ...page, task: "mine" }), limit);
        expect(pages.flat().map(({ id }) => id)).toEqual(["j2500", "j1200", "j1"]);
        expect(pages).toHaveLength(Math.ceil(3 / limit));
      }
    });

    it("shows a task no jobs of one that had its name before", async () => {
      const { created_at: born } = await registry.createTask(newTask("t"), null, "ann");
      const put = (id: string, more: object = {}) => registry.putJob({ ...newJob(id), ...more });
      await put("old", { born });
      // As an earlier version kept it.
      const { created_at } = await put("older");
      const listed = async () =>
        (await walk(page => registry.listJobs({ ...page, task: "t" }), 1)).flat().map(({ id }) => id);
      await registry.deleteTask("t");
      expect(await listed()).toEqual(["older", "old"]);
      await later(created_at);
      const made = await registry.createTask(newTask("t"), null, "ann");
      expect(await listed()).toEqual([]);
      await put("new", { born: made.created_at });
      await put("late", { born });
      await put("newer");
      expect(await listed()).toEqual(["newer", "new"]);
      expect((await registry.getJob("old")).task).toBe("t");
      expect((await registry.listJobs()).items).toHaveLength(5);
    });

    it("forgets jobs a month after they ended, but not those whose prompts are there", async () => {
      const ago = (days: number) => new Date(Date.now() - days * 86_400_000).toISOString();
      const past: [string, number, number | null][] = [
        ["kept", 90, 90],
        ["open", 90, null],
        ["long", 90, 29],
        ...Array.from({ length: 50 }, (_, at): [string, number, number] => [`old${at}`, 40, 31]),
        ["young", 29, 29],
      ];
      for (const [id] of past) await registry.putJob(newJob(id));
      await registry.createTask(newTask("a"), null, "ann");
      // A copy from the task that the job was for.
      await registry.createTask(newTask("b"), { ...hard(), recipe: { job: "kept" } }, "ann");
      await registry.addPrompt("b", { ...hard(), recipe: { job: 7 } });
      const aged = (await registry.snapshot(allOf)).flatMap(({ key, row }): Row[] => {
        const [, created, ended] = past.find(([id]) => id === key[1]) ?? ["", 0, null];
        if (key[0] === "open-job") return ended === null ? [{ key, row }] : [];
        if (key[0] !== "job") return [{ key, row }];
        const times = { created_at: ago(created), ended_at: ended === null ? null : ago(ended) };
        return [{ key, row: { ...(row as object), ...times } }];
      });
      await registry.replaceRows(inTurn(aged));
      const { last } = await registry.changes(0);
      await Promise.all([registry.sweep(), registry.sweep()]);
      const left = async () => (await registry.listJobs({ limit: 1000 })).items.map(({ id }) => id);
      expect(await left()).toEqual(["young", "long", "open", "kept"]);
      expect(await codeOf(registry.getJob("old0"))).toBe("job_not_found");
      expect((await registry.changes(last)).changes.filter(({ kind }) => kind === "job")).toHaveLength(50);
      expect(await registry.openJobs()).toEqual([{ id: "open", task: "t" }]);
      await registry.deleteTask("b");
      // Once a day.
      await registry.sweep();
      expect(await left()).toHaveLength(4);
      const rows = await registry.snapshot(allOf);
      const yesterday = ({ key, row }: Row) => ({ key, row: key[0] === "mark" ? ago(1) : row });
      await registry.replaceRows(inTurn(rows.map(yesterday)));
      await registry.sweep();
      expect(await left()).toEqual(["young", "long", "open"]);
      await registry.putJob(newJob("next"));
      expect(await left()).toEqual(["next", "young", "long", "open"]);
    });

    it("knows open jobs that an earlier version put, whose rows did not say so", async () => {
      for (const id of ["open", "ended", "later"]) await registry.putJob(newJob(id));
      await registry.updateJob("ended", { ended_at: new Date().toISOString() });
      const rows = (await registry.snapshot(allOf)).filter(({ key: [kind] }) => kind !== "open-job");
      await registry.replaceRows(inTurn(rows));
      for (let times = 0; times < 2; times++)
        expect((await registry.openJobs()).map(({ id }) => id)).toEqual(["open", "later"]);
      await registry.updateJob("open", { ended_at: new Date().toISOString() });
      expect((await registry.openJobs()).map(({ id }) => id)).toEqual(["later"]);
    });

    it("names blobs by their SHA-256 and gives back the same bytes", async () => {
      const contents = [new Uint8Array(0), bytesOf("abc"), new Uint8Array(300_000).map((_, at) => at * 7)];
      for (const bytes of contents) {
        const name = await registry.putBlob(bytes);
        expect(name).toBe(sha256(bytes));
        expect(Buffer.compare(await registry.getBlob(name), bytes)).toBe(0);
      }
      const same = await Promise.all(Array.from({ length: 8 }, () => registry.putBlob(bytesOf("same"))));
      expect(new Set(same).size).toBe(1);
      expect(await codeOf(registry.getBlob(sha256(bytesOf("absent"))))).toBe("registry_unavailable");
      expect(await codeOf(registry.getBlob("../../etc/passwd"))).toBe("registry_unavailable");
    });

    it("drops a blob at once, but none that is named, nor while a snapshot is read", async () => {
      const prefix = (parameters: string): NewPrompt => ({ ...hard(), kind: "prefix", parameters });
      const put = (text: string) => registry.putBlob(bytesOf(text));
      const blob = await put("dropped");
      await registry.snapshot(async () => expect(await registry.dropBlob(blob)).toBe(false));
      await registry.getBlob(blob);
      expect([await registry.dropBlob(blob), await registry.dropBlob(blob)]).toEqual([true, false]);
      expect(await codeOf(registry.getBlob(blob))).toBe("registry_unavailable");
      expect(await codeOf(registry.dropBlob("../../etc/passwd"))).toBe("registry_unavailable");
      await registry.createTask(newTask("t"), null, "ann");
      expect(await codeOf(registry.addPrompt("t", prefix(blob)))).toBe("registry_unavailable");

      expect(await put("dropped")).toBe(blob);
      const [ofDataset, ofJob] = [await put("dataset"), await put("job")];
      await registry.addPrompt("t", prefix(blob));
      await registry.putDataset({ id: "d", rows: 1, labels: null, sha256: ofDataset, bytes: 7 });
      await registry.putJob({ ...newJob("j"), blobs: [ofJob] });
      for (const named of [blob, ofDataset, ofJob]) {
        expect(await registry.dropBlob(named)).toBe(false);
        await registry.getBlob(named);
      }
      await registry.deleteTask("t");
      await registry.deleteDataset("d");
      await registry.updateJob("j", { state: "succeeded", ended_at: new Date().toISOString() });
      for (const unnamed of [blob, ofDataset, ofJob]) expect(await registry.dropBlob(unnamed)).toBe(true);
    });

    it("loses no named blob to drops that race with those who put and name the same bytes", async () => {
      await registry.createTask(newTask("t"), null, "ann");
      for (let round = 0; round < 40; round++) {
        const bytes = bytesOf(`blob ${round}`);
        const blob = await registry.putBlob(bytes);
        const name = async (): Promise<unknown> => {
          const parameters = await registry.putBlob(bytes);
          const code = await codeOf(registry.addPrompt("t", { ...hard(), kind: "prefix", parameters }));
          return code === "registry_unavailable" ? name() : code;
        };
        const drop = async (after: number) => {
          await sleep(after);
          return registry.dropBlob(blob);
        };
        const [first, second] = await Promise.all([name(), name(), ...[0, 1, 2, 3].map(drop)]);
        expect([first, second]).toEqual([{ resolved: expect.anything() }, { resolved: expect.anything() }]);
        expect(await registry.dropBlob(blob)).toBe(false);
        for (const { parameters } of (await registry.listPrompts("t", { limit: 1000 })).items)
          await registry.getBlob(parameters!);
      }
      expect((await registry.getTask("t")).prompts).toBe(80);
    });

    it("keeps what was marked, and nothing else", async () => {
      const name = `mark-${Math.random()}`;
      expect(await registry.marked(name)).toBe(false);
      await registry.mark(name);
      await registry.mark(name);
      expect([await registry.marked(name), await registry.marked(`${name}2`)]).toEqual([true, false]);
    });

    it("remembers a reply by key and request, and the first one stays", async () => {
      const reply = { status: 201, headers: { location: "/tasks/t" }, body: { id: "t", text: "\ud800" } };
      const key = "k".repeat(5000);
      expect(await registry.recall(key, "h1")).toBeNull();
      await registry.remember(key, "h1", reply, "ann");
      await registry.remember(key, "h1", { ...reply, status: 500 }, "ann");
      expect(await registry.recall(key, "h1")).toEqual(reply);
      expect(await codeOf(registry.recall(key, "h2"))).toBe("idempotency_conflict");
      expect(await codeOf(registry.remember(key, "h2", reply, "ann"))).toBe("idempotency_conflict");
      expect(await registry.recall(`${key}2`, "h2")).toBeNull();
    });

    it("makes a write that has a name once, and gives what it gave", async () => {
      const text = '"\ud800 😀 {{ input }}';
      const make = (active: { prompt: number }) =>
        registry.createTask(newTask("t"), hard(text), "ann", active, { commit: "task" });
      // One that was refused was not made.
      expect(await codeOf(make({ prompt: 2 }))).toBe("prompt_not_found");
      const task = await make({ prompt: 1 });
      const add = () => registry.addPrompt("t", hard(text), { commit: "prompt", expected: 1 });
      const [prompt, ...others] = await Promise.all([add(), add(), add(), add()]);
      const job = await registry.putJob(newJob("j"), { commit: "job" });
      const sha256 = await registry.putBlob(bytesOf("rows"));
      const rows = { rows: 1, labels: null, sha256, bytes: 4 };
      const dataset = await registry.putDataset({ id: "d", ...rows }, { commit: "dataset" });
      await registry.setActive("t", null, "ann");
      const { last } = await registry.changes(0);
      expect(await make({ prompt: 1 })).toEqual(task);
      for (const each of [...others, await add()]) expect(each).toEqual(prompt);
      expect(await registry.putJob(newJob("another"), { commit: "job" })).toEqual(job);
      expect(await registry.putDataset({ id: "e", ...rows }, { commit: "dataset" })).toEqual(dataset);
      expect((await registry.changes(0)).last).toBe(last);
      expect((await registry.openJobs()).map(({ id }) => id)).toEqual(["j"]);
      expect((await registry.addPrompt("t", hard(), { commit: "another" })).version).toBe(3);
    });

    it("lets one holder answer a key, and the next one where it gives up", async () => {
      const holders = ["ann", "bob", "eve"];
      const claims = await Promise.all(holders.map(holder => registry.claim("k", "h", holder)));
      expect(claims.filter(claim => claim === "claimed")).toHaveLength(1);
      const mine = holders[claims.indexOf("claimed")]!;
      const other = holders.find(holder => holder !== mine)!;
      expect(await registry.claim("k", "h", mine)).toBe("claimed");
      expect(await codeOf(registry.claim("k", "h2", other))).toBe("idempotency_conflict");
      expect(await registry.recall("k", "h")).toBeNull();
      await registry.release("k", other);
      expect(await registry.claim("k", "h", other)).toBe("taken");
      await registry.release("k", mine);
      expect(await registry.claim("k", "h", other)).toBe("claimed");
      const reply = { status: 201, headers: {}, body: { text: "\ud800" } };
      await registry.remember("k", "h", reply, other);
      for (const holder of [mine, other]) {
        expect(await registry.claim("k", "h", holder)).toEqual(reply);
        await registry.release("k", holder);
      }
      expect(await registry.recall("k", "h")).toEqual(reply);
    });

    it("lets another one answer where the holder has fallen silent", async () => {
      const begun = Date.now();
      expect(await registry.claim("k", "h", "dead")).toBe("claimed");
      await vi.waitFor(async () => expect(await registry.claim("k", "h", "ann")).toBe("claimed"), {
        timeout: 25_000,
        interval: 500,
      });
      expect(Date.now() - begun).toBeGreaterThan(5_000);
    }, 30_000);

    it("tells watchers of each change once, in the feed's order, until they stop", async () => {
      const seen: Notice[] = [];
      const stop = registry.watch(change => seen.push(change));
      await registry.createTask(newTask("t"), hard(), "ann");
      await Promise.all(Array.from({ length: 10 }, () => registry.addPrompt("t", hard())));
      await codeOf(registry.deletePrompt("t", 1));
      await registry.deletePrompt("t", 2);
      await registry.putJob(newJob("j"));
      const { changes, last, trimmed } = await registry.changes(0);
      expect(trimmed).toBe(false);
      expect(seen).toEqual(changes);
      expect(changes.map(change => change.seq)).toEqual(
        Array.from({ length: changes.length }, (_, at) => at + 1),
      );
      expect(changes.slice(0, 3).map(({ kind, id, version }) => [kind, id, version])).toEqual([
        ["task", "t", undefined],
        ["prompt", "t", 1],
        ["active", "t", undefined],
      ]);
      expect(changes.at(-1)).toEqual({ seq: last, kind: "job", id: "j" });
      expect((await registry.changes(last - 2)).changes).toEqual(changes.slice(-2));
      expect(await registry.changes(last)).toEqual({ changes: [], last, trimmed: false });
      expect((await registry.changes(last + 5)).trimmed).toBe(true);
      stop();
      await registry.deleteTask("t");
      expect(seen).toHaveLength(changes.length);
    });

    it("gives its rows of one moment, is emptied at once, and takes them back as they were", async () => {
      const parameters = await registry.putBlob(bytesOf("parameters"));
      await registry.createTask(newTask("t"), hard(), "ann");
      await registry.addPrompt("t", { ...hard(), kind: "prefix", parameters });
      await registry.putJob(newJob("j"));
      const rows: Row[] = [];
      await registry.snapshot(async taken => {
        for await (const row of taken) {
          if (rows.push(row) === 1) await registry.setActive("t", { prompt: 2 }, "ben");
        }
      });
      expect(rows.map(({ key }) => key)).toEqual([
        ["job", "j"],
        ["job-order", 1],
        ["open-job", "j"],
        ["prompt", "t", 1],
        ["prompt", "t", 2],
        ["history", "t", 1],
        ["task", "t"],
      ]);
      const seen: Notice[] = [];
      registry.watch(notice => seen.push(notice));
      const { last } = await registry.changes(0);
      expect(await registry.replaceRows(inTurn([]))).toBe(true);
      expect(seen).toContainEqual({ kind: "reload" });
      expect((await registry.changes(last)).trimmed).toBe(true);
      expect(await registry.isEmpty()).toBe(true);
      expect(await codeOf(registry.getTask("t"))).toBe("task_not_found");
      expect((await registry.listJobs()).items).toEqual([]);
      await registry.mark("m");
      expect(await registry.isEmpty()).toBe(true);
      expect(await registry.replaceRows(inTurn(rows), { ifEmpty: true })).toBe(true);
      expect(await registry.replaceRows(inTurn([]), { ifEmpty: true })).toBe(false);
      expect(await registry.isEmpty()).toBe(false);
      expect(await registry.marked("m")).toBe(false);
      expect(await registry.getTask("t")).toMatchObject({ active: { prompt: 1 }, prompts: 2 });
      expect((await registry.addPrompt("t", hard())).version).toBe(3);
      expect(await registry.openJobs()).toEqual([{ id: "j", task: "t" }]);
      const lost = rows.map(({ key, row }) =>
        key[0] === "prompt" && key[2] === 2
          ? { key, row: { ...(row as object), parameters: "0".repeat(64) } }
          : { key, row },
      );
      expect(await codeOf(registry.replaceRows(inTurn(lost)))).toBe("registry_unavailable");
      expect((await registry.getTask("t")).prompts).toBe(3);
    });

    it("finishes writes under way when closed, and then is unavailable", async () => {
      await registry.createTask(newTask("t"), null, "ann");
      const writing = Promise.all(Array.from({ length: 20 }, () => registry.addPrompt("t", hard())));
      await registry.close();
      expect(await writing).toHaveLength(20);
      for (const call of [
        () => registry.getTask("t"),
        () => registry.addPrompt("t", hard()),
        () => registry.listTasks(),
        () => registry.putBlob(bytesOf("x")),
        () => registry.changes(0),
        () => registry.dropBlob(sha256(bytesOf("x"))),
        () => registry.sweep(),
        () => registry.backup("unused"),
        () => registry.snapshot(async () => {}),
        () => registry.isEmpty(),
        () => registry.replaceRows(inTurn([])),
      ])
        expect(await codeOf(call())).toBe("registry_unavailable");
      await registry.close();
    });
  });
}

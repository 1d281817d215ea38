/**
 * The embedded registry: metadata in one LMDB file (lmdb-store.ts), blobs as files beside it (blobs.ts).
 * Keys: [task, id] · [prompt, task, version] · [history, task, revision] · [dataset, id] · [job, id] ·
 * [job-order, seq] → id · [reply, sha256 of key] · [seq] · [change, seq].
 */
import { createHash } from "node:crypto";
import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import type { Dataset } from "../contract/dataset.ts";
import type { PromptRecord } from "../contract/prompt.ts";
import type { Activation, Active, Task } from "../contract/task.ts";
import { BlobFolder } from "./blobs.ts";
import { LmdbStore } from "./lmdb-store.ts";
import { decodeCursor, toPage } from "./page.ts";
import * as problem from "./problems.ts";
import type {
  Change,
  ChangeKind,
  Expected,
  JobRecord,
  NewPrompt,
  PageRequest,
  Registry,
  StoredReply,
} from "./registry.ts";

const hour = 3_600_000;
const replyLife = 24 * hour;
const blobGrace = hour;
const feedLength = 10_000;
const feedBatch = 1000;
/** A page asks for one more than the longest page, to know whether another follows. */
const longest = 1001;

/** `next` is the version that the next prompt gets: it only grows, whatever is deleted. */
type TaskRow = Task & { next: number };
type ReplyRow = { name: string; hash: string; at: number; reply: StoredReply };

/** A caller's key may be of any length, the store's may not. */
const replyName = (key: string) => createHash("sha256").update(key).digest("hex");

const toTask = ({ next, ...task }: TaskRow): Task => task;

export interface LmdbOptions {
  /** Milliseconds since the epoch; for tests of what expires. */
  now?: () => number;
}

/** Opens the registry in `folder`, making it. Errors: `registry_unavailable`, also when another process holds it. */
export async function openLmdbRegistry(
  folder: string,
  { now = Date.now }: LmdbOptions = {},
): Promise<Registry> {
  const store = await LmdbStore.open(folder);
  const blobFolder = join(folder, "blobs");
  await mkdir(blobFolder, { recursive: true });
  const blobs = new BlobFolder(blobFolder);
  const listeners = new Set<(change: Change) => void>();
  const timestamp = () => new Date(now()).toISOString();
  let told = store.get<number>(["seq"]) ?? 0;
  /** A sweep must not remove what a backup is about to copy: they take turns. */
  let turn: Promise<unknown> = Promise.resolve();

  function inTurn<Result>(action: () => Promise<Result>): Promise<Result> {
    const mine = turn.then(action);
    turn = mine.catch(() => {});
    return mine;
  }

  /** Tells listeners what is committed, in order, each entry once. */
  function tell(): void {
    for (const change of store.values<Change>(["change"], { after: told })) {
      told = change.seq;
      for (const listener of listeners) {
        try {
          listener(change);
        } catch (error) {
          process.emitWarning(`A listener of the registry failed: ${(error as Error).message}`);
        }
      }
    }
  }

  async function write<Result>(action: () => Result): Promise<Result> {
    const result = await store.write(action);
    if (store.isOpen) tell();
    return result;
  }

  function note(kind: ChangeKind, id: string, version?: number): number {
    const seq = (store.get<number>(["seq"]) ?? 0) + 1;
    store.put(["seq"], seq);
    store.put(["change", seq], { seq, kind, id, ...(version !== undefined && { version }) });
    return seq;
  }

  function taskRow(id: string): TaskRow {
    const row = store.get<TaskRow>(["task", id]);
    if (!row) throw problem.taskNotFound(id);
    return row;
  }

  function promptRow(task: string, version: number): PromptRecord {
    const row = store.get<PromptRecord>(["prompt", task, version]);
    if (!row) throw problem.promptNotFound(task, version);
    return row;
  }

  function datasetRow(id: string): Dataset {
    const row = store.get<Dataset>(["dataset", id]);
    if (!row) throw problem.datasetNotFound(id);
    return row;
  }

  function jobRow(id: string): JobRecord {
    const row = store.get<JobRecord>(["job", id]);
    if (!row) throw problem.jobNotFound(id);
    return row;
  }

  function requireBlob(sha256: string): void {
    if (!blobs.has(sha256))
      throw problem.unavailable(`Blob ${sha256} is not there; put it before what names it.`);
  }

  /** Writes the next version and its count into `row`, which the caller stores. */
  function addVersion(row: TaskRow, prompt: NewPrompt, at = timestamp()): PromptRecord {
    if (prompt.parameters) requireBlob(prompt.parameters);
    const record: PromptRecord = { ...prompt, task: row.id, version: row.next, created_at: at };
    row.next += 1;
    row.prompts += 1;
    store.put(["prompt", row.id, record.version], record);
    note("prompt", row.id, record.version);
    return record;
  }

  function activate(row: TaskRow, active: Active | null, by: string, at = timestamp()): void {
    for (const version of problem.versionsOf(active)) promptRow(row.id, version);
    row.active = active;
    row.active_revision += 1;
    row.updated_at = at;
    const entry: Activation = { revision: row.active_revision, active, by, at };
    store.put(["history", row.id, entry.revision], entry);
    note("active", row.id);
  }

  /** The reply under a key if it has not expired; another request's is a conflict. */
  function liveReply(key: string, hash: string): ReplyRow | null {
    const row = store.get<ReplyRow>(["reply", replyName(key)]);
    if (!row || row.at + replyLife <= now()) return null;
    if (row.hash !== hash) throw problem.idempotencyConflict(key);
    return row;
  }

  function namedBlobs(): Set<string> {
    const prompts = store.values<PromptRecord>(["prompt"]).map(row => row.parameters);
    const datasets = store.values<Dataset>(["dataset"]).map(row => row.sha256);
    const jobs = store.values<JobRecord>(["job"]).flatMap(row => (row.ended_at ? [] : row.blobs));
    return new Set([...prompts.filter(sha256 => sha256 !== null), ...datasets, ...jobs]);
  }

  return {
    createTask: (task, first, by, active = first ? { prompt: 1 } : null) =>
      write(() => {
        if (store.get(["task", task.id])) throw problem.taskExists(task.id);
        const at = timestamp();
        const row: TaskRow = {
          ...task,
          active: null,
          revision: 1,
          active_revision: 0,
          prompts: 0,
          created_at: at,
          updated_at: at,
          next: 1,
        };
        note("task", task.id);
        if (first) addVersion(row, first, at);
        if (active) activate(row, active, by, at);
        store.put(["task", task.id], row);
        return toTask(row);
      }),

    getTask: async id => store.read(() => toTask(taskRow(id))),

    listTasks: async (page = {}) =>
      store.read(() => {
        const after = decodeCursor("tasks", page.cursor);
        const rows = store.values<TaskRow>(["task"], { after, limit: longest });
        return toPage("tasks", rows.map(toTask), task => task.id, page);
      }),

    patchTask: (id, patch, { expected }: Expected = {}) =>
      write(() => {
        const row = taskRow(id);
        problem.checkRevision(`Task "${id}"`, expected, row.revision);
        const changed = { ...row, ...patch, revision: row.revision + 1, updated_at: timestamp() };
        store.put(["task", id], changed);
        note("task", id);
        return toTask(changed);
      }),

    deleteTask: (id, { expected }: Expected = {}) =>
      write(() => {
        problem.checkRevision(`Task "${id}"`, expected, taskRow(id).revision);
        for (const { version } of store.values<PromptRecord>(["prompt", id]))
          store.remove(["prompt", id, version]);
        for (const { revision } of store.values<Activation>(["history", id]))
          store.remove(["history", id, revision]);
        store.remove(["task", id]);
        note("task", id);
      }),

    addPrompt: (task, prompt, { activate: activation } = {}) =>
      write(() => {
        const row = taskRow(task);
        const record = addVersion(row, prompt);
        if (activation) activate(row, { prompt: record.version }, activation.by);
        store.put(["task", task], row);
        return record;
      }),

    getPrompt: async (task, version) =>
      store.read(() => {
        taskRow(task);
        return promptRow(task, version);
      }),

    listPrompts: async (task, page = {}) =>
      store.read(() => {
        taskRow(task);
        const list = `prompts/${task}`;
        const after = decodeCursor(list, page.cursor);
        const rows = store.values<PromptRecord>(["prompt", task], { after, limit: longest });
        return toPage(list, rows, prompt => prompt.version, page);
      }),

    deletePrompt: (task, version) =>
      write(() => {
        const row = taskRow(task);
        promptRow(task, version);
        if (problem.versionsOf(row.active).includes(version)) throw problem.promptInUse(task, version);
        store.remove(["prompt", task, version]);
        store.put(["task", task], { ...row, prompts: row.prompts - 1 });
        note("prompt", task, version);
      }),

    setActive: (task, active, by, { expected }: Expected = {}) =>
      write(() => {
        const row = taskRow(task);
        problem.checkRevision(`The active record of task "${task}"`, expected, row.active_revision);
        activate(row, active, by);
        store.put(["task", task], row);
        return toTask(row);
      }),

    listHistory: async (task, page = {}) =>
      store.read(() => {
        taskRow(task);
        const list = `history/${task}`;
        const after = decodeCursor(list, page.cursor);
        const rows = store.values<Activation>(["history", task], { after, reverse: true, limit: longest });
        return toPage(list, rows, entry => entry.revision, page);
      }),

    putDataset: dataset =>
      write(() => {
        requireBlob(dataset.sha256);
        const record: Dataset = { ...dataset, created_at: timestamp() };
        store.put(["dataset", dataset.id], record);
        note("dataset", dataset.id);
        return record;
      }),

    getDataset: async id => store.read(() => datasetRow(id)),

    listDatasets: async (page = {}) =>
      store.read(() => {
        const after = decodeCursor("datasets", page.cursor);
        const rows = store.values<Dataset>(["dataset"], { after, limit: longest });
        return toPage("datasets", rows, dataset => dataset.id, page);
      }),

    deleteDataset: id =>
      write(() => {
        datasetRow(id);
        store.remove(["dataset", id]);
        note("dataset", id);
      }),

    putJob: job =>
      write(() => {
        if (store.get(["job", job.id])) throw problem.jobExists(job.id);
        job.blobs.forEach(requireBlob);
        const order = note("job", job.id);
        const record = { ...job, created_at: timestamp(), revision: 1 };
        store.put(["job", job.id], record);
        store.put(["job-order", order], { order, id: job.id, task: job.task });
        return record;
      }),

    getJob: async id => store.read(() => jobRow(id)),

    listJobs: async ({ task, ...page }: PageRequest & { task?: string } = {}) =>
      store.read(() => {
        const list = `jobs/${task ?? ""}`;
        const after = decodeCursor(list, page.cursor);
        const rows = store
          .values<{ order: number; id: string; task: string }>(["job-order"], { after, reverse: true })
          .filter(row => task === undefined || row.task === task);
        const { items, next_cursor } = toPage(list, rows, row => row.order, page);
        return { items: items.map(row => jobRow(row.id)), next_cursor };
      }),

    updateJob: (id, patch, { expected }: Expected = {}) =>
      write(() => {
        const row = jobRow(id);
        problem.checkRevision(`Job "${id}"`, expected, row.revision);
        patch.blobs?.forEach(requireBlob);
        const changed = { ...row, ...patch, revision: row.revision + 1 };
        store.put(["job", id], changed);
        note("job", id);
        return changed;
      }),

    putBlob: async bytes => store.read(() => blobs.put(bytes)),
    getBlob: async sha256 => store.read(() => blobs.get(sha256)),

    recall: async (key, requestHash) => store.read(() => liveReply(key, requestHash)?.reply ?? null),

    remember: (key, requestHash, reply) =>
      write(() => {
        if (liveReply(key, requestHash)) return;
        const row: ReplyRow = { name: replyName(key), hash: requestHash, at: now(), reply };
        store.put(["reply", row.name], row);
      }),

    marked: async name => store.read(() => store.get<string>(["mark", name]) !== undefined),
    mark: name => write(() => store.put(["mark", name], timestamp())),

    changes: async since =>
      store.read(() => {
        const newest = store.get<number>(["seq"]) ?? 0;
        const changes = store.values<Change>(["change"], { after: since, limit: feedBatch });
        const trimmed = since > newest || (since < newest && changes[0]?.seq !== since + 1);
        return { changes, last: changes.at(-1)?.seq ?? newest, trimmed };
      }),

    watch: listener => {
      // A wrapper for each call, so that one function may watch twice.
      const watcher = (change: Change) => listener(change);
      listeners.add(watcher);
      return () => listeners.delete(watcher);
    },

    backup: target =>
      inTurn(async () => {
        await store.backup(target);
        await blobs.copyTo(join(target, "blobs"));
      }),

    sweep: () =>
      inTurn(async () => {
        const before = now() - blobGrace;
        const old = store.read(() => blobs.olderThan(before));
        const candidates = await old;
        // Inside one transaction, so that nothing can name a blob between the look and the removal.
        return store.write(() => {
          const named = namedBlobs();
          const unnamed = candidates.filter(file => !named.has(file.slice(3)));
          const removed = unnamed.filter(file => blobs.removeIfOlder(file, before));
          const expired = store.values<ReplyRow>(["reply"]).filter(row => row.at + replyLife <= now());
          for (const { name } of expired) store.remove(["reply", name]);
          const keepFrom = (store.get<number>(["seq"]) ?? 0) - feedLength;
          for (const { seq } of store.values<Change>(["change"]))
            if (seq <= keepFrom) store.remove(["change", seq]);
          return { blobs: removed.length, replies: expired.length };
        });
      }),

    close: async () => {
      await turn;
      await store.close();
      listeners.clear();
    },
  };
}

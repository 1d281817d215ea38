/** The registry over a store of rows: what each call reads, refuses and writes, whatever the store. */
import { createHash } from "node:crypto";
import type { Dataset } from "../contract/dataset.ts";
import type { PromptRecord } from "../contract/prompt.ts";
import type { Activation, Active, Task } from "../contract/task.ts";
import { withDoubts } from "./doubts.ts";
import { forgetJobs, listJobs } from "./job-rows.ts";
import { pageOf } from "./page.ts";
import * as problem from "./problems.ts";
import type { Born, ByJob, Expected, JobRecord, NewPrompt, OpenJob, Registry } from "./registry.ts";
import {
  isEmpty,
  type JobPlace,
  jobLife,
  lifeOf,
  type Reader,
  type ReplyRow,
  type Store,
  type TaskRow,
  type Writer,
} from "./store.ts";

export interface RegistryOptions {
  /** Milliseconds since the epoch; for tests of what expires. */
  now?: () => number;
}

/** Marks a registry whose open jobs all have rows: earlier releases wrote none. */
export const INDEXED = "open jobs";
/** Notes when old jobs were last looked for: looking reads all jobs. */
const FORGOTTEN = "old jobs";
const day = 86_400_000;

/** A caller's key may be of any length, the store's may not. */
const replyName = (key: string) => createHash("sha256").update(key).digest("hex");

const toTask = ({ next, ...task }: TaskRow): Task => task;

function taskRow(rows: Reader, id: string, { born }: Born = {}): TaskRow {
  const row = rows.get<TaskRow>(["task", id]);
  if (!row) throw problem.taskNotFound(id);
  if (born !== undefined && row.created_at !== born) throw problem.taskIsAnother(id);
  return row;
}

/** A task's row, for a job that may still write. */
function rowFor(rows: Reader, task: string, { born, job }: ByJob): TaskRow {
  if (job) {
    const { ended_at, holder } = jobRow(rows, job.id);
    if (ended_at !== null || holder !== job.holder) throw problem.jobLeft(job.id);
  }
  return { ...taskRow(rows, task, { born }) };
}

function promptRow(rows: Reader, task: string, version: number): PromptRecord {
  const row = rows.get<PromptRecord>(["prompt", task, version]);
  if (!row) throw problem.promptNotFound(task, version);
  return row;
}

function datasetRow(rows: Reader, id: string): Dataset {
  const row = rows.get<Dataset>(["dataset", id]);
  if (!row) throw problem.datasetNotFound(id);
  return row;
}

function jobRow(rows: Reader, id: string): JobRecord {
  const row = rows.get<JobRecord>(["job", id]);
  if (!row) throw problem.jobNotFound(id);
  return row;
}

const openPlace = (place: JobPlace, { backbone }: Pick<JobRecord, "backbone">): JobPlace =>
  backbone === undefined ? place : { ...place, backbone };

/** Writes the task's next version, and its count into `row`, which the caller stores. */
function addVersion(rows: Writer, row: TaskRow, prompt: NewPrompt, at: string): PromptRecord {
  if (prompt.parameters) rows.requireBlob(prompt.parameters);
  const record: PromptRecord = { ...prompt, task: row.id, version: row.next, created_at: at };
  row.next += 1;
  row.prompts += 1;
  rows.put(["prompt", row.id, record.version], record);
  rows.note("prompt", row.id, record.version);
  return record;
}

const checkActive = ({ id, active_revision }: TaskRow, expected: number | undefined): void =>
  problem.checkRevision(`The active record of task "${id}"`, expected, active_revision);

/** Every prompt version that an active record names. */
function namedVersions(active: Active | null): number[] {
  if (!active) return [];
  const { prompt, ensemble = [], split = [], shadow } = active;
  const all = [prompt, ...ensemble, ...split.map(share => share.prompt), shadow?.prompt];
  return [...new Set(all.filter(version => version !== undefined))];
}

/** Writes the history, and the active record into `row`, which the caller stores. */
function activate(rows: Writer, row: TaskRow, active: Active | null, by: string, at: string): void {
  for (const version of namedVersions(active)) promptRow(rows, row.id, version);
  row.active = active;
  row.active_revision += 1;
  row.updated_at = at;
  const entry: Activation = { revision: row.active_revision, active, by, at };
  rows.put(["history", row.id, entry.revision], entry);
  rows.note("active", row.id);
}

export function storedRegistry(store: Store, { now = Date.now }: RegistryOptions = {}): Registry {
  const timestamp = () => new Date(now()).toISOString();

  /** A reply that has not expired; another request's is a conflict. */
  function liveReply(row: ReplyRow | null, key: string, hash: string): ReplyRow | null {
    if (!row || row.at + lifeOf(row) <= now()) return null;
    if (row.hash !== hash) throw problem.idempotencyConflict(key);
    return row;
  }

  /** Once in a registry's life, for jobs that were put before there were rows of the open ones. */
  async function indexOpenJobs(): Promise<void> {
    await store.write(rows => {
      const places = rows.values<JobPlace>(["job-order"]);
      const jobs = rows.getAll<JobRecord>(places.map(({ id }) => ["job", id]));
      for (const [at, place] of places.entries())
        if (jobs[at]?.ended_at === null) rows.put(["open-job", place.id], openPlace(place, jobs[at]));
      rows.put(["mark", INDEXED], timestamp());
    });
  }

  return {
    createTask: (task, first, by, active = first ? { prompt: 1 } : null, { commit } = {}) =>
      store.write(rows => {
        if (rows.get(["task", task.id])) throw problem.taskExists(task.id);
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
        rows.note("task", task.id);
        if (first) addVersion(rows, row, first, at);
        if (active) activate(rows, row, active, by, at);
        rows.put(["task", task.id], row);
        return toTask(row);
      }, commit),

    getTask: (id, born) => store.read(rows => toTask(taskRow(rows, id, born))),

    listTasks: (page = {}) =>
      store.read(rows => {
        const { items, next_cursor } = pageOf<TaskRow>(rows, "tasks", ["task"], ({ id }) => id, page);
        return { items: items.map(toTask), next_cursor };
      }),

    patchTask: (id, patch, { expected }: Expected = {}) =>
      store.write(rows => {
        const row = taskRow(rows, id);
        problem.checkRevision(`Task "${id}"`, expected, row.revision);
        const changed = { ...row, ...patch, revision: row.revision + 1, updated_at: timestamp() };
        rows.put(["task", id], changed);
        rows.note("task", id);
        return toTask(changed);
      }),

    deleteTask: (id, { expected }: Expected = {}) =>
      store.write(rows => {
        problem.checkRevision(`Task "${id}"`, expected, taskRow(rows, id).revision);
        for (const { version } of rows.values<PromptRecord>(["prompt", id]))
          rows.remove(["prompt", id, version]);
        for (const { revision } of rows.values<Activation>(["history", id]))
          rows.remove(["history", id, revision]);
        rows.remove(["task", id]);
        rows.note("task", id);
      }),

    addPrompt: (task, prompt, { activate: activation, once = false, expected, commit, ...writer } = {}) =>
      store.write(rows => {
        const row = rowFor(rows, task, writer);
        const { name, parameters } = prompt;
        const same = (other: PromptRecord) => other.name === name && other.parameters === parameters;
        const there = once ? rows.values<PromptRecord>(["prompt", task]).find(same) : undefined;
        if (there) return there;
        checkActive(row, expected);
        const at = timestamp();
        const record = addVersion(rows, row, prompt, at);
        if (activation)
          activate(rows, row, withDoubts({ prompt: record.version }, row.active), activation.by, at);
        rows.put(["task", task], row);
        return record;
      }, commit),

    getPrompt: (task, version) =>
      store.read(rows => {
        taskRow(rows, task);
        return promptRow(rows, task, version);
      }),

    listPrompts: (task, page = {}) =>
      store.read(rows => {
        taskRow(rows, task);
        const position = ({ version }: PromptRecord) => version;
        return pageOf(rows, `prompts/${task}`, ["prompt", task], position, page);
      }),

    deletePrompt: (task, version, { expected }: Expected = {}) =>
      store.write(rows => {
        const row = taskRow(rows, task);
        checkActive(row, expected);
        promptRow(rows, task, version);
        if (namedVersions(row.active).includes(version)) throw problem.promptInUse(task, version);
        rows.remove(["prompt", task, version]);
        rows.put(["task", task], { ...row, prompts: row.prompts - 1 });
        rows.note("prompt", task, version);
      }),

    setActive: (task, active, by, { expected, ...writer }: Expected & ByJob = {}) =>
      store.write(rows => {
        const row = rowFor(rows, task, writer);
        checkActive(row, expected);
        activate(rows, row, active, by, timestamp());
        rows.put(["task", task], row);
        return toTask(row);
      }),

    listHistory: (task, page = {}) =>
      store.read(rows => {
        taskRow(rows, task);
        const position = ({ revision }: Activation) => revision;
        return pageOf(rows, `history/${task}`, ["history", task], position, page, { reverse: true });
      }),

    putDataset: (dataset, { commit } = {}) =>
      store.write(rows => {
        rows.requireBlob(dataset.sha256);
        const record: Dataset = { ...dataset, created_at: timestamp() };
        rows.put(["dataset", dataset.id], record);
        rows.note("dataset", dataset.id);
        return record;
      }, commit),

    getDataset: id => store.read(rows => datasetRow(rows, id)),

    listDatasets: (page = {}) =>
      store.read(rows => pageOf<Dataset>(rows, "datasets", ["dataset"], ({ id }) => id, page)),

    deleteDataset: id =>
      store.write(rows => {
        datasetRow(rows, id);
        rows.remove(["dataset", id]);
        rows.note("dataset", id);
      }),

    putJob: (job, { commit } = {}) =>
      store.write(rows => {
        if (rows.get(["job", job.id])) throw problem.jobExists(job.id);
        for (const blob of job.blobs) rows.requireBlob(blob);
        const [newest] = rows.values<JobPlace>(["job-order"], { reverse: true, limit: 1 });
        let order = (newest?.order ?? 0) + 1;
        // Another replica's job may have come since the newest was looked for.
        while (rows.get(["job-order", order])) order++;
        const place: JobPlace = { order, id: job.id, task: job.task };
        const record = { ...job, created_at: timestamp(), revision: 1 };
        rows.put(["job", job.id], record);
        rows.put(["job-order", order], place);
        if (record.ended_at === null) rows.put(["open-job", job.id], openPlace(place, job));
        rows.note("job", job.id);
        return record;
      }, commit),

    getJob: id => store.read(rows => jobRow(rows, id)),

    listJobs: (request = {}) => listJobs(store, request),

    openJobs: async () => {
      const open = (rows: Reader) =>
        rows.get(["mark", INDEXED]) === undefined ? null : rows.values<JobPlace>(["open-job"]);
      const places = (await store.read(open)) ?? (await indexOpenJobs().then(() => store.read(open))) ?? [];
      return places.sort((a, b) => a.order - b.order).map(({ order, ...open }): OpenJob => open);
    },

    updateJob: (id, patch, { expected }: Expected = {}) =>
      store.write(rows => {
        const row = jobRow(rows, id);
        problem.checkRevision(`Job "${id}"`, expected, row.revision);
        for (const blob of patch.blobs ?? []) rows.requireBlob(blob);
        const changed = { ...row, ...patch, revision: row.revision + 1 };
        rows.put(["job", id], changed);
        if (changed.ended_at !== null) rows.remove(["open-job", id]);
        rows.note("job", id);
        return changed;
      }),

    putBlob: store.putBlob,
    getBlob: store.getBlob,
    dropBlob: store.dropBlob,

    recall: async (key, requestHash) =>
      liveReply(await store.getReply(replyName(key)), key, requestHash)?.reply ?? null,

    claim: async (key, requestHash, holder) => {
      const row: ReplyRow = { name: replyName(key), hash: requestHash, at: now(), holder, reply: null };
      const kept = liveReply(await store.keepReply(row, holder), key, requestHash);
      return kept?.reply ?? (kept?.holder === holder ? "claimed" : "taken");
    },

    remember: async (key, requestHash, reply, holder) => {
      const row: ReplyRow = { name: replyName(key), hash: requestHash, at: now(), reply };
      liveReply(await store.keepReply(row, holder), key, requestHash);
    },

    release: (key, holder) => store.dropReply(replyName(key), holder),

    marked: name => store.read(rows => rows.get(["mark", name]) !== undefined),
    mark: name => store.write(rows => rows.put(["mark", name], timestamp())),

    snapshot: store.snapshot,
    replaceRows: store.replaceRows,
    isEmpty: () => store.read(isEmpty),

    changes: store.changes,
    watch: store.watch,
    reachable: store.reachable,
    backup: store.backup,
    sweep: async () => {
      const ago = (time: number) => new Date(now() - time).toISOString();
      const last = await store.read(rows => rows.get<string>(["mark", FORGOTTEN]));
      if (last === undefined || last < ago(day)) {
        await forgetJobs(store, ago(jobLife));
        // Where it can't be written, in a full Redis, they are looked for in an hour.
        await store.write(rows => rows.put(["mark", FORGOTTEN], timestamp())).catch(() => {});
      }
      return store.sweep();
    },
    close: store.close,
  };
}

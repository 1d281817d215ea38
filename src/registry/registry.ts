/**
 * Where everything that must last is kept. One interface, one contract suite (test/registry/contract.ts); nothing else
 * knows where data lies. Metadata is small; prompt parameters and data sets are immutable blobs named by their SHA-256,
 * written before the metadata that names them, so that no record ever points at nothing.
 *
 * Promises of every implementation:
 * - A write that resolved is durable, and visible to every later read through this registry.
 * - What one call writes is written whole or not at all.
 * - A version number is never given twice within a task's life; a deleted task leaves nothing that a later task of the
 *   same name could see.
 * - A store that is closed or broken answers `registry_unavailable`.
 */
import type { Dataset } from "../contract/dataset.ts";
import type { Job } from "../contract/job.ts";
import type { PromptRecord } from "../contract/prompt.ts";
import type { Activation, Active, Task, TaskPatch } from "../contract/task.ts";
import type { Row } from "./store.ts";

export type NewTask = Pick<Task, "id" | "type" | "labels" | "description">;
export type NewPrompt = Omit<PromptRecord, "task" | "version" | "created_at">;
export type NewDataset = Omit<Dataset, "created_at">;

/**
 * A job with what only the server needs. `request` is the validated body; `checkpoint` is where a run that stopped goes
 * on; `blobs` are those that the job still needs (its examples, its checkpoint), safe from the sweep until it ends;
 * `backbone` is the fingerprint of the one that it was submitted for, and `born` tells when its task was created: records
 * of earlier versions lack them; `attempts` counts the starts since the last checkpoint, of which `holder` names the
 * last; `revision` is counted by the registry and is what a compare-and-set names.
 */
export interface JobRecord extends Job {
  request: unknown;
  backbone?: string;
  born?: string;
  blobs: string[];
  checkpoint: string | null;
  attempts: number;
  holder: string | null;
  revision: number;
}
export type NewJob = Omit<JobRecord, "revision" | "created_at">;
export type JobPatch = Partial<
  Omit<JobRecord, "id" | "task" | "kind" | "request" | "backbone" | "born" | "revision" | "created_at">
>;

export interface OpenJob {
  id: string;
  task: string;
  /** The fingerprint of the one that it is for; undefined where any will do. */
  backbone?: string;
}

export interface Page<Item> {
  items: Item[];
  /** Opaque; give it back to get the next page. Null after the last. */
  next_cursor: string | null;
}

export interface PageRequest {
  /** 1 to 1000; 50 when left out. */
  limit?: number;
  /** A foreign or damaged one is a `validation` problem. */
  cursor?: string;
}

export interface Expected {
  /** The revision the caller saw; another one now is `revision_conflict` with `{expected, actual}`. */
  expected?: number;
}

export interface Born {
  /** When the task that is meant was created, as a job's record tells: one of its name that came later is `task_not_found`. */
  born?: string | undefined;
}

export interface ByJob extends Born {
  /** The job that writes: once it has ended, or is another holder's, nothing is written; `revision_conflict`. */
  job?: Pick<JobRecord, "id" | "holder"> | undefined;
}

export interface Named {
  /** The write's name: one of it that was made within 24 hours is not made again, and gives what it gave. */
  commit?: string | undefined;
}

export type ChangeKind = "task" | "prompt" | "active" | "dataset" | "job";

/** An entry of the change feed: what changed, never how; readers load it again. */
export interface Change {
  /** 1, 2, 3, … in the order of the writes. */
  seq: number;
  kind: ChangeKind;
  /** The task's id for `task`, `prompt` and `active`. */
  id: string;
  version?: number;
}

/** What a watcher hears: a change, or that changes were missed and anything may have changed. */
export type Notice = Change | { kind: "reload" };

export interface ChangeBatch {
  changes: Change[];
  /** Give it to the next call. */
  last: number;
  /** Entries after `since` are no longer kept: reload everything. */
  trimmed: boolean;
}

/** An answer kept for a caller who sends the same request again. */
export interface StoredReply {
  status: number;
  headers: Record<string, string>;
  body: unknown;
}

export interface Registry {
  /**
   * Creates the task, its version 1 where a first prompt is given, and its active record (`{prompt: 1}` with a first
   * prompt unless `active` says otherwise) in one write. Errors: `task_exists`, `prompt_not_found`.
   */
  createTask(
    task: NewTask,
    first: NewPrompt | null,
    by: string,
    active?: Active | null,
    options?: Named,
  ): Promise<Task>;
  /** Errors: `task_not_found`. */
  getTask(id: string, options?: Born): Promise<Task>;
  /** In the order of ids. */
  listTasks(page?: PageRequest): Promise<Page<Task>>;
  /** Errors: `task_not_found`, `revision_conflict` (compares `revision`). */
  patchTask(id: string, patch: TaskPatch, options?: Expected): Promise<Task>;
  /** Deletes the task with its prompts and history. Errors as `patchTask`. */
  deleteTask(id: string, options?: Expected): Promise<void>;

  /**
   * Assigns the next version; `activate` makes it the active prompt in the same write. With `once`, a version of the same
   * name and parameters is given back as it is. Errors: `task_not_found`, `revision_conflict` where what is active is not
   * what was expected, `registry_unavailable` when its blob is missing.
   */
  addPrompt(
    task: string,
    prompt: NewPrompt,
    options?: { activate?: { by: string }; once?: boolean } & Expected & ByJob & Named,
  ): Promise<PromptRecord>;
  /** Errors: `task_not_found`, `prompt_not_found`. */
  getPrompt(task: string, version: number): Promise<PromptRecord>;
  /** In the order of versions. Errors: `task_not_found`. */
  listPrompts(task: string, page?: PageRequest): Promise<Page<PromptRecord>>;
  /**
   * Errors: `task_not_found`, `prompt_not_found`, `prompt_in_use` while the active record names it, `revision_conflict`
   * (compares `active_revision`).
   */
  deletePrompt(task: string, version: number, options?: Expected): Promise<void>;

  /**
   * Replaces the active record (null: none) and appends to the history. Errors: `task_not_found`, `prompt_not_found`
   * for any version that does not exist, `revision_conflict` (compares `active_revision`).
   */
  setActive(task: string, active: Active | null, by: string, options?: Expected & ByJob): Promise<Task>;
  /** Newest first. Errors: `task_not_found`. */
  listHistory(task: string, page?: PageRequest): Promise<Page<Activation>>;

  /** Replaces a data set of the same id. Errors: `registry_unavailable` when its blob is missing. */
  putDataset(dataset: NewDataset, options?: Named): Promise<Dataset>;
  /** Errors: `dataset_not_found`. */
  getDataset(id: string): Promise<Dataset>;
  listDatasets(page?: PageRequest): Promise<Page<Dataset>>;
  /** Errors: `dataset_not_found`. */
  deleteDataset(id: string): Promise<void>;

  /** Errors: `validation` when the id is taken. A job outlives its task, as a record of what was done, until the sweep. */
  putJob(job: NewJob, options?: Named): Promise<JobRecord>;
  /** Errors: `job_not_found`. */
  getJob(id: string): Promise<JobRecord>;
  /** Newest first. `task`: those of the task that is there; where there is none, of every one that had its name. */
  listJobs(page?: PageRequest & { task?: string }): Promise<Page<JobRecord>>;
  /** Jobs that have not ended, in the order in which they came. */
  openJobs(): Promise<OpenJob[]>;
  /** Errors: `job_not_found`, `revision_conflict` (compares the job's `revision`). */
  updateJob(id: string, patch: JobPatch, options?: Expected): Promise<JobRecord>;

  /** Keeps the bytes and returns their SHA-256 in hexadecimal; bytes that are already there are not written again. */
  putBlob(bytes: Uint8Array): Promise<string>;
  /** Checked against their name. Errors: `registry_unavailable` when missing or damaged. */
  getBlob(sha256: string): Promise<Uint8Array>;
  /**
   * Removes a blob before the sweep would, and says whether it did: nothing names it, nobody is putting it, and no
   * snapshot or backup is under way. Whoever put the same bytes and has not named them yet has to put them again.
   */
  dropBlob(sha256: string): Promise<boolean>;

  /**
   * The reply stored under this key for this very request, or null. Kept 24 hours.
   * Errors: `idempotency_conflict` when the key came with another request.
   */
  recall(key: string, requestHash: string): Promise<StoredReply | null>;
  /**
   * Before a request is answered: keeps its key for `holder`, one of all replicas, for some seconds; called again it keeps
   * it on. Gives the reply that is stored, or whether the key is the holder's now or another's. Errors as `recall`.
   */
  claim(key: string, requestHash: string, holder: string): Promise<StoredReply | "claimed" | "taken">;
  /** Stores the holder's reply; the first one stays. Errors: `idempotency_conflict`. */
  remember(key: string, requestHash: string, reply: StoredReply, holder: string): Promise<void>;
  /** Lets the key go without a reply. */
  release(key: string, holder: string): Promise<void>;

  /** Whether `mark` was called with this name, ever. */
  marked(name: string): Promise<boolean>;
  /** Says for good that something was done. */
  mark(name: string): Promise<void>;

  /** What changed after `since` (0: from the beginning), oldest first, at most 1000 entries. */
  changes(since: number): Promise<ChangeBatch>;
  /**
   * Calls the listener after each durable change, in order, whoever wrote it; of this registry's own writes before they
   * resolve (with a `reload` in its place where the feed can't be read just then). Returns how to stop.
   */
  watch(listener: (notice: Notice) => void): () => void;

  /** Whether the store answers, as far as is known without asking it. */
  reachable(): boolean;

  /** The rows of one moment as they are kept, kind by kind, for an archive; until the work ends no blob is removed. */
  snapshot<Result>(work: (rows: AsyncIterable<Row>) => Promise<Result>): Promise<Result>;
  /** Whether nothing is there but what was marked. */
  isEmpty(): Promise<boolean>;
  /**
   * Puts rows, as a snapshot gave them, in place of all that is there, in one step; whoever watches hears `reload`. False,
   * and nothing changed, where with `ifEmpty` it is not empty. Errors: `registry_unavailable`, and nothing changed, when
   * a blob that a row names is missing.
   */
  replaceRows(rows: AsyncIterable<Row>, options?: { ifEmpty?: boolean }): Promise<boolean>;

  /**
   * Copies everything to a new folder while reads and writes go on; the copy opens as a registry, and is there when it is
   * whole. Errors: `validation` where there is something of that name.
   */
  backup(folder: string): Promise<void>;
  /**
   * Removes jobs that ended over 30 days ago and that no prompt's recipe names, blobs that nothing names and that are over
   * an hour old, expired replies and old feed entries.
   */
  sweep(): Promise<{ blobs: number; replies: number }>;
  /** Waits for writes under way; later calls answer `registry_unavailable`. */
  close(): Promise<void>;
}

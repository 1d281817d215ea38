/**
 * What a registry is built on: rows in the order of their keys, blobs, a feed of changes. One file (stored.ts) says what
 * each call reads and writes; a store says how that lasts.
 * Keys: [task, id] · [prompt, task, version] · [history, task, revision] · [dataset, id] · [job, id] ·
 * [job-order, order] → id · [open-job, id], while it has not ended · [mark, name].
 */
import type { Dataset } from "../contract/dataset.ts";
import type { PromptRecord } from "../contract/prompt.ts";
import type { Task } from "../contract/task.ts";
import type { ChangeBatch, ChangeKind, JobRecord, Notice, StoredReply } from "./registry.ts";

export type StoreKey = (string | number)[];

/** Kinds of rows: what others need, or is nothing without them, before them. */
export const rowKinds = [
  "mark",
  "dataset",
  "job",
  "job-order",
  "open-job",
  "prompt",
  "history",
  "task",
] as const;
export type RowKind = (typeof rowKinds)[number];

export interface Row {
  key: StoreKey;
  row: unknown;
}

/** `next` is the version that the next prompt gets: it only grows, whatever is deleted. */
export type TaskRow = Task & { next: number };
/** A job's place in the order in which jobs came. */
export interface JobPlace {
  order: number;
  id: string;
  task: string;
  /** The backbone that an open job is for. */
  backbone?: string;
}
/** `name` is the SHA-256 of the caller's key, `hash` that of the request; `holder` makes the reply, until it is there. */
export interface ReplyRow {
  name: string;
  hash: string;
  at: number;
  holder?: string;
  reply: StoredReply | null;
}

const hour = 3_600_000;
/** A reply is recalled for so long. */
export const replyLife = 24 * hour;
/** Whoever makes a reply and has fallen silent for so long makes it no more. */
export const claimLife = 10_000;
export const lifeOf = ({ reply }: ReplyRow): number => (reply === null ? claimLife : replyLife);
/** A job that has ended is kept for so long, and on while a prompt's recipe names it. */
export const jobLife = 30 * 24 * hour;
/** A blob that nothing names is safe for so long after it was put. */
export const blobGrace = hour;
/** Entries of the feed that are kept, and that one call reads. */
export const feedLength = 10_000;
export const feedBatch = 1000;

export interface Range {
  /** The last part of the key behind which the range begins. */
  after?: string | number | undefined;
  reverse?: boolean;
  limit?: number;
}

export interface Reader {
  get<Value>(key: StoreKey): Value | undefined;
  /** Several at once, where each would be a way of its own. */
  getAll<Value>(keys: readonly StoreKey[]): (Value | undefined)[];
  /** Values under a prefix in the order of the key's last part, as they were before this write; at most `limit`. */
  values<Value>(prefix: StoreKey, range?: Range): Value[];
}

export interface Writer extends Reader {
  put(key: StoreKey, value: unknown): void;
  remove(key: StoreKey): void;
  /** An entry of the change feed, which becomes durable together with what is written. */
  note(kind: ChangeKind, id: string, version?: number): void;
  /** Throws `registry_unavailable`, now or when the write ends, if the blob is not there. */
  requireBlob(sha256: string): void;
}

/** Actions may be called more than once, with the same outcome for the same rows; what they throw undoes the write. */
export interface Store {
  read<Result>(action: (reader: Reader) => Result): Promise<Result>;
  /**
   * Resolves once it is durable and watchers were told: of it or, where the feed can't be read now, to reload. `commit`
   * as `Named`; the result is then JSON.
   */
  write<Result>(action: (writer: Writer) => Result, commit?: string): Promise<Result>;

  putBlob(bytes: Uint8Array): Promise<string>;
  getBlob(sha256: string): Promise<Uint8Array>;
  /** As the registry's. */
  dropBlob(sha256: string): Promise<boolean>;

  getReply(name: string): Promise<ReplyRow | null>;
  /** Keeps it unless there is one that lives and is not `holder`'s; gives back the one that is kept. */
  keepReply(row: ReplyRow, holder: string): Promise<ReplyRow>;
  /** Removes what is `holder`'s, so that another may make the reply. */
  dropReply(name: string, holder: string): Promise<void>;

  /** The rows of one moment, kind by kind; until the work ends no blob is removed. */
  snapshot<Result>(work: (rows: AsyncIterable<Row>) => Promise<Result>): Promise<Result>;
  /** As the registry's. */
  replaceRows(rows: AsyncIterable<Row>, options?: { ifEmpty?: boolean }): Promise<boolean>;

  changes(since: number): Promise<ChangeBatch>;
  watch(listener: (notice: Notice) => void): () => void;
  reachable(): boolean;
  backup(folder: string): Promise<void>;
  sweep(): Promise<{ blobs: number; replies: number }>;
  close(): Promise<void>;
}

/** Whether nothing is there but what was marked. */
export const isEmpty = (rows: Reader): boolean =>
  rowKinds.every(kind => kind === "mark" || rows.values([kind], { limit: 1 }).length === 0);

/** The blobs that a row needs. */
export function blobsOf([kind]: StoreKey, row: unknown): string[] {
  if (row === undefined) return [];
  if (kind === "prompt") return [(row as PromptRecord).parameters].filter(sha256 => sha256 !== null);
  if (kind === "dataset") return [(row as Dataset).sha256];
  if (kind === "job") return (row as JobRecord).ended_at ? [] : (row as JobRecord).blobs;
  return [];
}

/** Calls every listener; one that fails keeps none of the others from hearing. */
export function tellAll(listeners: Iterable<(notice: Notice) => void>, notice: Notice): void {
  for (const listener of listeners) {
    try {
      listener(notice);
    } catch (error) {
      process.emitWarning(`A listener of the registry failed: ${(error as Error).message}`);
    }
  }
}

/** Listeners by call, so that one function may watch twice. */
export function addListener(
  listeners: Set<(notice: Notice) => void>,
  listener: (notice: Notice) => void,
): () => void {
  const watcher = (notice: Notice) => listener(notice);
  listeners.add(watcher);
  return () => listeners.delete(watcher);
}

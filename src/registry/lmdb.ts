/**
 * The embedded registry: metadata in one LMDB file (lmdb-store.ts), blobs as files beside it (blobs.ts). Beside the rows
 * of every store it has [reply, name] · [done, name] · [seq] · [change, seq].
 */
import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import type { ForewordError } from "../errors.ts";
import { BlobNames } from "./blob-names.ts";
import { BlobFolder } from "./blobs.ts";
import { LmdbStore } from "./lmdb-store.ts";
import * as problem from "./problems.ts";
import type { Change, Notice, Registry } from "./registry.ts";
import {
  addListener,
  blobGrace,
  blobsOf,
  feedBatch,
  feedLength,
  isEmpty,
  type JobPlace,
  lifeOf,
  type ReplyRow,
  type Row,
  replyLife,
  rowKinds,
  type Store,
  type StoreKey,
  tellAll,
  type Writer,
} from "./store.ts";
import { INDEXED, type RegistryOptions, storedRegistry } from "./stored.ts";
import { isPartial, writeWhole } from "./whole-folder.ts";

/** What a write gave that has a name. */
interface DoneRow {
  name: string;
  at: number;
  result: unknown;
}

/** Opens the registry in `folder`, making it. Errors: `registry_unavailable`, also when another process holds it. */
export async function openLmdbRegistry(folder: string, options: RegistryOptions = {}): Promise<Registry> {
  const { now = Date.now } = options;
  if (isPartial(folder))
    throw problem.unavailable(`${folder} is a backup that was never finished. Open another one.`);
  const db = await LmdbStore.open(folder);
  const blobFolder = join(folder, "blobs");
  await mkdir(blobFolder, { recursive: true });
  const blobs = new BlobFolder(blobFolder);
  const listeners = new Set<(notice: Notice) => void>();
  const lives = (row: ReplyRow) => row.at + lifeOf(row) > now();
  const newest = () => db.get<number>(["seq"]) ?? 0;
  let told = newest();
  /** A sweep must not remove what a backup is about to copy: they take turns. */
  let turn: Promise<unknown> = Promise.resolve();
  /** Those that have not ended. */
  let turns = 0;

  function inTurn<Result>(action: () => Promise<Result>): Promise<Result> {
    turns++;
    const mine = turn.then(action).finally(() => turns--);
    turn = mine.catch(() => {});
    return mine;
  }

  /** Tells listeners what is committed, in order, each entry once. */
  function tell(): void {
    for (const change of db.values<Change>(["change"], { after: told })) {
      told = change.seq;
      tellAll(listeners, change);
    }
  }

  const names = new BlobNames(kind => db.values([kind]));

  const rows: Writer = {
    get: key => db.get(key),
    getAll: <Value>(keys: readonly StoreKey[]) => keys.map(key => db.get<Value>(key)),
    values: (prefix, range) => db.values(prefix, range),
    put: (key, value) => {
      names.replace(key, () => db.get(key), value);
      db.put(key, value);
    },
    remove: key => {
      names.replace(key, () => db.get(key), undefined);
      db.remove(key);
    },
    note: (kind, id, version) => {
      const seq = newest() + 1;
      db.put(["seq"], seq);
      db.put(["change", seq], { seq, kind, id, ...(version !== undefined && { version }) });
    },
    requireBlob: sha256 => {
      if (!blobs.has(sha256)) throw problem.blobMissing(sha256);
    },
  };

  async function* snapshotRows(): AsyncGenerator<Row> {
    yield* db.snapshot(rowKinds.map(kind => [kind]));
  }

  /** Inside a transaction alone: whether a row names it. */
  function namedBlobs(): (sha256: string) => boolean {
    // Ended jobs, of which there are many, name none.
    const open = db.get(["mark", INDEXED]) !== undefined;
    const places = db.values<JobPlace>([open ? "open-job" : "job-order"]);
    const ofJobs = new Set(places.flatMap(({ id }) => blobsOf(["job"], db.get(["job", id]))));
    return sha256 => ofJobs.has(sha256) || names.has(sha256);
  }

  /** What an action that fails has written is undone, and so is what it has counted. */
  const write = <Result>(action: () => Result): Promise<Result> =>
    db
      .write(() => {
        names.begin();
        try {
          return action();
        } catch (error) {
          names.undo();
          throw error;
        }
      })
      .catch((error: ForewordError) => {
        // A commit that failed may have held other writes as well.
        if (error.code === "registry_unavailable") names.forget();
        throw error;
      });

  /** Inside a transaction alone: what the write of this name has given, or gives now. */
  function once<Result>(name: string, action: () => Result): Result {
    const done = db.get<DoneRow>(["done", name]);
    if (done && done.at + replyLife > now()) return done.result as Result;
    const result = action();
    db.put(["done", name], { name, at: now(), result } satisfies DoneRow);
    return result;
  }

  const store: Store = {
    read: async action => db.read(() => action(rows)),
    write: async (action, name) => {
      const act = () => action(rows);
      const result = await write(name === undefined ? act : () => once(name, act));
      if (db.isOpen) tell();
      return result;
    },

    putBlob: async bytes => db.read(() => blobs.put(bytes)),
    getBlob: async sha256 => db.read(() => blobs.get(sha256)),
    // In one transaction, as a sweep.
    dropBlob: sha256 => db.write(() => turns === 0 && !namedBlobs()(sha256) && blobs.remove(sha256)),

    getReply: async name => db.read(() => db.get<ReplyRow>(["reply", name]) ?? null),
    keepReply: (row, holder) =>
      db.write(() => {
        const there = db.get<ReplyRow>(["reply", row.name]);
        if (there && lives(there) && there.holder !== holder) return there;
        db.put(["reply", row.name], row);
        return row;
      }),
    dropReply: (name, holder) =>
      db.write(() => {
        if (db.get<ReplyRow>(["reply", name])?.holder === holder) db.remove(["reply", name]);
      }),

    snapshot: work => inTurn(async () => db.read(() => work(snapshotRows()))),
    replaceRows: (given, { ifEmpty = false } = {}) =>
      inTurn(async () => {
        const all: Row[] = [];
        for await (const row of given) all.push(row);
        const replaced = await write(() => {
          if (ifEmpty && !isEmpty(rows)) return false;
          names.forget();
          db.removeAll([...rowKinds, "change"].map(kind => [kind]));
          for (const { key, row } of all) {
            for (const blob of blobsOf(key, row)) rows.requireBlob(blob);
            rows.put(key, row);
          }
          // A number without its entry: whoever followed the feed reloads.
          db.put(["seq"], newest() + 1);
          return true;
        });
        if (!replaced) return false;
        told = newest();
        tellAll(listeners, { kind: "reload" });
        return true;
      }),

    changes: async since =>
      db.read(() => {
        const changes = db.values<Change>(["change"], { after: since, limit: feedBatch });
        const trimmed = since > newest() || (since < newest() && changes[0]?.seq !== since + 1);
        return { changes, last: changes.at(-1)?.seq ?? newest(), trimmed };
      }),

    watch: listener => addListener(listeners, listener),
    reachable: () => db.isOpen,

    backup: target =>
      inTurn(async () =>
        db.read(() =>
          writeWhole(target, async scratch => {
            await db.backup(scratch);
            await blobs.copyTo(join(scratch, "blobs"));
          }),
        ),
      ),

    sweep: () =>
      inTurn(async () => {
        const before = now() - blobGrace;
        const old = db.read(() => blobs.olderThan(before));
        const candidates = await old;
        // Inside one transaction, so that nothing can name a blob between the look and the removal.
        return db.write(() => {
          const isNamed = namedBlobs();
          const unnamed = candidates.filter(file => !isNamed(file.slice(3)));
          const removed = unnamed.filter(file => blobs.removeIfOlder(file, before));
          const expired = db.values<ReplyRow>(["reply"]).filter(row => !lives(row));
          for (const { name } of expired) db.remove(["reply", name]);
          for (const { name, at } of db.values<DoneRow>(["done"]))
            if (at + replyLife <= now()) db.remove(["done", name]);
          const keepFrom = newest() - feedLength;
          for (const { seq } of db.values<Change>(["change"]))
            if (seq <= keepFrom) db.remove(["change", seq]);
          return { blobs: removed.length, replies: expired.length };
        });
      }),

    close: async () => {
      await turn;
      await db.close();
      listeners.clear();
    },
  };
  return storedRegistry(store, options);
}

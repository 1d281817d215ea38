/**
 * The registry in Redis, for any number of replicas. All metadata and the change feed share the hash tag `{fw}`, so that
 * a write and its feed entries are one script in one slot; blobs are `fw:blob:<sha256>` in any slot.
 *
 * Keys of `{fw}`: a hash for each kind of row with a sorted set of its fields (`{fw}:task`, `{fw}:task:order`, …), `seq`,
 * `feed` (a stream), `commit:<id>` (a minute, or a day of a write that has a name: one whose reply was lost is asked for
 * again), `blobs`, `names`, `pending`, `puts:<sha256>`, `removing` (redis-blobs.ts), `reply:<name>` (a day; some seconds
 * while it is made), `holders` (of backups that run).
 *
 * A write is decided here, from what was read, and committed only if that still holds; where another replica was faster
 * it is decided anew. What is acknowledged lasts as Redis lasts: with `appendfsync always` nothing is lost, with
 * `everysec` at most the last two seconds when the power fails; under Sentinel and Cluster a write also waits for one
 * replica (`wait`), which a fail-over may still pass over for another one that lags.
 */
import { randomUUID } from "node:crypto";
import { blobMissing, closed, unavailable } from "./problems.ts";
import { backupRedis } from "./redis-backup.ts";
import { blobIndex, blobNames, RedisBlobs } from "./redis-blobs.ts";
import type { RedisLog } from "./redis-client.ts";
import { LARGE_MS, RedisConnection } from "./redis-connection.ts";
import { feedKeys, RedisFeed, readChanges } from "./redis-feed.ts";
import { replaceRows } from "./redis-replace.ts";
import { fieldOf, keyOf, Lacking, orderOf, type RangeQuery, RedisRows, tableOf } from "./redis-rows.ts";
import { commit, dropReply, keepReply, readRange, readRows, recallCommit } from "./redis-scripts.ts";
import { snapshotRows } from "./redis-snapshot.ts";
import { parseRedisUrl } from "./redis-url.ts";
import type { Registry } from "./registry.ts";
import {
  addListener,
  feedLength,
  lifeOf,
  type ReplyRow,
  replyLife,
  type Store,
  type StoreKey,
} from "./store.ts";
import { type RegistryOptions, storedRegistry } from "./stored.ts";
import { writeWhole } from "./whole-folder.ts";

/** How long a commit is known by its id. */
const COMMIT_MS = 60_000;
/** Times that other replicas may be faster, one after another. */
const TRIES = 100;
/** Rows that one script reads: others wait for it. */
const PORTION = 5000;
/** Characters of a commit that takes its time. */
const LARGE = 2 ** 20;

/** How a reply's row begins while `holder` makes it. */
const heldBy = (holder: string): string => `{"holder":${JSON.stringify(holder)},`;

interface Done<Result> {
  result: Result;
  seq: number;
}

/** What a commit said; one that has a name says its result too, which may be another's of that name. */
function toDone<Result>(said: string, mine?: Result): Done<Result> {
  const [, seq, json] = /^ok (\d+) (.*)$/s.exec(said) as unknown as [string, string, string];
  return { seq: Number(seq), result: json === "" ? mine! : JSON.parse(json) };
}

export interface RedisRegistryOptions extends RegistryOptions {
  log?: RedisLog;
}

/** Opens the registry at a URL as redis-url.ts takes it. Errors: `validation`, `registry_unavailable`. */
export async function openRedisRegistry(url: string, options: RedisRegistryOptions = {}): Promise<Registry> {
  const { now = Date.now, log = { error: () => {} } } = options;
  const place = parseRedisUrl(url);
  const connection = await RedisConnection.open(place, log);
  const feed = await RedisFeed.open(connection, place, log).catch(error => {
    connection.close();
    throw error;
  });
  const { client } = connection;
  const blobs = new RedisBlobs(connection, now);
  const running = new Set<Promise<unknown>>();
  let open = true;
  /** Writes that lost a race come one after another. */
  let turn: Promise<unknown> = Promise.resolve();

  /** Refuses when closed; closing waits for it. */
  function use<Result>(work: () => Promise<Result>): Promise<Result> {
    if (!open) return Promise.reject(closed());
    const done = work();
    const settled = done.then(
      () => {},
      () => {},
    );
    running.add(settled);
    void settled.then(() => running.delete(settled));
    return done;
  }

  async function load(rows: RedisRows, keys: readonly StoreKey[]): Promise<void> {
    for (let from = 0; from < keys.length; from += PORTION) {
      const portion = keys.slice(from, from + PORTION);
      const texts = await connection.run(readRows, portion.map(tableOf), portion.map(fieldOf));
      for (const [at, key] of portion.entries()) rows.learn(key, (texts as (string | null)[])[at] ?? null);
    }
  }

  async function loadRange(rows: RedisRows, range: RangeQuery): Promise<void> {
    const { table, from, to, limit, reverse } = range;
    const wanted = [from, to, limit, reverse ? "REV" : ""];
    rows.learnRange(range, (await connection.run(readRange, [table, orderOf(table)], wanted)) as string[]);
  }

  /** The action's outcome, once all that it asks for is there. */
  async function settle<Result>(rows: RedisRows, action: (rows: RedisRows) => Result): Promise<Result> {
    for (;;) {
      rows.begin();
      try {
        return action(rows);
      } catch (error) {
        if (!(error instanceof Lacking)) throw error;
        if (error.range) await loadRange(rows, error.range);
        else await load(rows, error.keys);
      }
    }
  }

  /** Null where another write came between. */
  async function attempt<Result>(
    action: (rows: RedisRows) => Result,
    name?: string,
  ): Promise<Done<Result> | null> {
    const [id, life] = name === undefined ? [randomUUID(), COMMIT_MS] : [name, replyLife];
    const commitKey = keyOf(`commit:${id}`);
    if (name !== undefined && (await connection.inTime(client.exists(commitKey))) === 1) {
      const said = await connection.write(recallCommit, [commitKey], [life]);
      if (said !== null) return toDone<Result>(String(said));
    }
    const rows = new RedisRows();
    const result = await settle(rows, action);
    if (!rows.writes) return { result, seq: 0 };
    await Promise.all([load(rows, rows.unread), blobs.require(rows.needs)]);
    const fixed = [...feedKeys, commitKey, blobIndex, blobNames];
    const { tables, document } = rows.commit(fixed.length + 1);
    const keys = [...fixed, ...tables.flatMap(table => [table, orderOf(table)])];
    const limit = document.length > LARGE ? LARGE_MS : undefined;
    const given = name === undefined ? "" : JSON.stringify(result);
    const told = [document, id, feedLength, life, given];
    const said = String(await connection.write(commit, keys, told, limit));
    const [word, detail] = said.split(" ", 2) as [string, string];
    if (word === "missing") throw blobMissing(detail);
    return word === "ok" ? toDone(said, result) : null;
  }

  async function again<Result>(action: (rows: RedisRows) => Result, name?: string): Promise<Done<Result>> {
    for (let times = 0; times < TRIES; times++) {
      const done = await attempt(action, name);
      if (done) return done;
    }
    throw unavailable("Others change the same record all the time. Try again.");
  }

  async function write<Result>(action: (rows: RedisRows) => Result, name?: string): Promise<Result> {
    let done = await attempt(action, name);
    if (!done) {
      const mine = turn.then(() => again(action, name));
      turn = mine.catch(() => {});
      done = await mine;
    }
    await feed.catchUp(done.seq);
    return done.result;
  }

  const store: Store = {
    read: action => use(() => settle(new RedisRows(), action)),
    write: (action, name) => use(() => write(action, name)),

    putBlob: bytes => use(() => blobs.put(bytes)),
    getBlob: sha256 => use(() => blobs.get(sha256)),
    dropBlob: sha256 => use(() => blobs.drop(sha256)),

    getReply: name =>
      use(async () => {
        const found = await connection.inTime(client.get(keyOf(`reply:${name}`)));
        return found === null ? null : (JSON.parse(found) as ReplyRow);
      }),
    keepReply: (row, holder) =>
      use(async () => {
        const { holder: of, ...rest } = row;
        const kept = [JSON.stringify({ holder: of, ...rest }), heldBy(holder), lifeOf(row)];
        return JSON.parse(String(await connection.write(keepReply, [keyOf(`reply:${row.name}`)], kept)));
      }),
    dropReply: (name, holder) =>
      use(async () => {
        await connection.run(dropReply, [keyOf(`reply:${name}`)], [heldBy(holder)]);
      }),

    snapshot: work => use(() => blobs.held(() => work(snapshotRows(connection)))),
    replaceRows: (rows, { ifEmpty = false } = {}) =>
      use(async () => {
        const replaced = await replaceRows(connection, blobs, rows, ifEmpty);
        if (replaced) await feed.reload();
        return replaced;
      }),

    changes: since => use(() => readChanges(connection, since)),
    watch: listener => addListener(feed.listeners, listener),
    reachable: () => connection.reachable,
    backup: folder => use(() => writeWhole(folder, scratch => backupRedis(connection, blobs, scratch))),
    // The feed is trimmed as it grows, and replies expire by themselves.
    sweep: () => use(async () => ({ blobs: await blobs.sweep(), replies: 0 })),

    close: async () => {
      open = false;
      await Promise.all(running);
      feed.close();
      connection.close();
    },
  };
  return storedRegistry(store, options);
}

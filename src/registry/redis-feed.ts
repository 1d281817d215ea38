/**
 * The change feed: a stream whose entries have the change's number as their id. A connection of its own waits for what
 * follows the last one seen, so that nothing is missed however often it breaks; where what follows is no longer there,
 * or the last one is not what it was (a fail-over lost it), watchers are told to reload.
 */
import { setTimeout as sleep } from "node:timers/promises";
import { createRedisClient, type RedisClient, type RedisLog } from "./redis-client.ts";
import type { RedisConnection } from "./redis-connection.ts";
import { keyOf } from "./redis-rows.ts";
import { readFeed } from "./redis-scripts.ts";
import type { RedisPlace } from "./redis-url.ts";
import type { Change, ChangeBatch, Notice } from "./registry.ts";
import { feedBatch, tellAll } from "./store.ts";

export const feedKeys = [keyOf("seq"), keyOf("feed")];

/** A read waits so long for news; a connection that is silent for longer is dead. */
const BLOCK_MS = 5000;
const SILENCE_MS = 3 * BLOCK_MS;
const PAUSE_MS = 50;

type Entry = [id: string, fields: string[]];
interface Told {
  change: Change;
  commit: string;
}

function toTold([id, [, change, , commit]]: Entry): Told {
  return { change: { seq: Number.parseInt(id, 10), ...JSON.parse(change!) }, commit: commit! };
}

async function read(connection: RedisConnection, since: number, limit: number) {
  const [newest, entries] = (await connection.run(readFeed, feedKeys, [since, limit])) as [string, Entry[]];
  return { newest: Number(newest), told: entries.map(toTold) };
}

/** What changed after `since`, as `Registry.changes` gives it. */
export async function readChanges(connection: RedisConnection, since: number): Promise<ChangeBatch> {
  const { newest, told } = await read(connection, since, feedBatch);
  const changes = told.map(({ change }) => change);
  const trimmed = since > newest || (since < newest && changes[0]?.seq !== since + 1);
  return { changes, last: changes.at(-1)?.seq ?? newest, trimmed };
}

export class RedisFeed {
  readonly #connection: RedisConnection;
  readonly #client: RedisClient;
  readonly listeners = new Set<(notice: Notice) => void>();
  /** The last change told, and the commit that it came with; null where it was never seen. */
  #last = 0;
  #commit: string | null = null;
  /** False until what was told last is known to be what the connection's other end has. */
  #sure = true;
  #reading: Promise<void> | null = null;
  #open = true;

  private constructor(connection: RedisConnection, place: RedisPlace, log: RedisLog) {
    this.#connection = connection;
    this.#client = createRedisClient(place, log, {
      connectionName: "foreword-feed",
      // A read that was cut off is sent again, and may give what was told meanwhile.
      maxRetriesPerRequest: null,
      socketTimeout: SILENCE_MS,
    });
    const check = () => {
      this.#sure = false;
      this.#readOn().catch(() => {});
    };
    // Connected anew, perhaps to another master, of a cluster too.
    this.#client.on("ready", check);
    this.#client.on("+node", check);
  }

  /** Begins with what changes from now on. */
  static async open(connection: RedisConnection, place: RedisPlace, log: RedisLog): Promise<RedisFeed> {
    const feed = new RedisFeed(connection, place, log);
    try {
      await feed.#jump();
    } catch (error) {
      feed.close();
      throw error;
    }
    void feed.#follow();
    return feed;
  }

  /**
   * Tells what is there already, up to `seq` at least: for a writer, whose own change must not come later. Where the feed
   * can't be read now, anything may have changed, and its own connection tells what, later.
   */
  async catchUp(seq: number): Promise<void> {
    // A read under way may have begun too early; the next one has not.
    for (let reads = 0; this.#open && this.#last < seq && reads < 2; reads++)
      await this.#readOn().catch(() => {});
    if (this.#open && this.#last < seq) tellAll(this.listeners, { kind: "reload" });
  }

  /** Makes sure that nothing was told which is no longer so. */
  async reload(): Promise<void> {
    // A read under way may have begun too early; the next one has not.
    try {
      for (let reads = 0; this.#open && reads < 2; reads++) await this.#readOn();
    } catch {
      tellAll(this.listeners, { kind: "reload" });
    }
  }

  close(): void {
    this.#open = false;
    this.#client.disconnect();
    this.listeners.clear();
  }

  async #follow(): Promise<void> {
    const key = feedKeys[1]!;
    while (this.#open) {
      try {
        const from = `${this.#last}-0`;
        const reply = await this.#client.xread("COUNT", feedBatch, "BLOCK", BLOCK_MS, "STREAMS", key, from);
        // Silence may also mean that the store began anew, and counts from 1 again.
        if (reply === null || !this.#sure) await this.#readOn();
        else this.#tell((reply as [string, Entry[]][])[0]![1].map(toTold));
      } catch {
        this.#sure = false;
        await sleep(PAUSE_MS);
      }
    }
  }

  /** Tells what follows the last change told, and makes sure that it is still what was told; once for all who wait. */
  #readOn(): Promise<void> {
    this.#reading ??= this.#read().finally(() => {
      this.#reading = null;
    });
    return this.#reading;
  }

  async #read(): Promise<void> {
    const since = this.#last;
    const { newest, told } = await read(this.#connection, Math.max(0, since - 1), feedBatch);
    if (this.#last !== since) return;
    const [first] = told;
    const same = first?.change.seq === since && (this.#commit === null || first.commit === this.#commit);
    if (since === 0 ? newest === 0 || first?.change.seq === 1 : same) this.#tell(told);
    else if (newest !== since || first) {
      await this.#jump();
      tellAll(this.listeners, { kind: "reload" });
    }
    this.#sure = true;
  }

  /** To the newest change, whatever it is. */
  async #jump(): Promise<void> {
    const { newest } = await read(this.#connection, 0, 1);
    const { told } = await read(this.#connection, Math.max(0, newest - 1), 1);
    this.#last = newest;
    this.#commit = told.find(({ change }) => change.seq === newest)?.commit ?? null;
  }

  #tell(told: readonly Told[]): void {
    for (const { change, commit } of told) {
      if (change.seq <= this.#last) continue;
      if (change.seq > this.#last + 1) tellAll(this.listeners, { kind: "reload" });
      this.#last = change.seq;
      this.#commit = commit;
      tellAll(this.listeners, change);
    }
  }
}

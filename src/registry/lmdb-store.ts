/**
 * One LMDB file as the registry uses it: durable transactions, ranges, one owner. Opened without overlapping
 * synchronisation, so that a transaction's promise resolves only once it is flushed to disk; each write is a child
 * transaction, which a thrown refusal undoes alone while its neighbours in the same flush go on.
 */
import { randomUUID } from "node:crypto";
import { mkdir, open as openFile, rm, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { type Key, open, type RootDatabase } from "lmdb";
import { ForewordError } from "../errors.ts";
import { holds, type Owner, thisOwner } from "./owner.ts";
import { closed, takenOver, unavailable } from "./problems.ts";
import type { Range, Row, StoreKey } from "./store.ts";

const ownerKey: StoreKey = ["owner"];
const fileName = "registry.lmdb";

/** A container's owner that can't be seen is believed dead when it was silent for so long. */
const silence = 20_000;
const signOfLife = 5_000;
/** How often one that waits for another's sign of life looks for it. */
const look = 500;

/** A commit is on disk when it is told; no promise but the caller's own is rejected where it fails. */
const commits = { overlappingSync: false, eventTurnBatching: false } as const;

/** `token` is one opening's own. */
type Opening = Owner & { token: string };
type OwnerRecord = Opening & { seen: number };
type Holder = OwnerRecord & { state: "alive" | "unseen" };

function asProblem(error: unknown): ForewordError {
  if (error instanceof ForewordError) return error;
  return unavailable("The registry's store failed; the server's log has the cause.", error);
}

/**
 * Why a commit failed (a full disk, most often). LMDB's error holds a promise that is rejected with the reason: left
 * alone it would end the process as an unhandled rejection.
 */
async function commitFailure(error: unknown): Promise<unknown> {
  const reason = (error as { commitError?: Promise<never> }).commitError;
  return reason === undefined ? error : reason.catch(cause => cause);
}

const magic = Buffer.from("dec0efbe", "hex");
const magicAt = 24;
/** More than a new file and its lock begin with, together. */
const newBytes = 65_536;

/** A new file that finds no room makes LMDB crash too. */
async function requireRoom(folder: string): Promise<void> {
  const probe = join(folder, `.${randomUUID()}`);
  try {
    await writeFile(probe, new Uint8Array(newBytes), { flush: true });
  } finally {
    await rm(probe, { force: true });
  }
}

/** LMDB maps what it is given and crashes on what is no LMDB file, so its mark is looked for first. */
async function requireLmdbFile(path: string): Promise<void> {
  const handle = await openFile(path, "r").catch(error => {
    if (error.code === "ENOENT") return null;
    throw error;
  });
  if (!handle) return requireRoom(dirname(path));
  try {
    const { bytesRead, buffer } = await handle.read(Buffer.alloc(magic.length), 0, magic.length, magicAt);
    const empty = (await handle.stat()).size === 0;
    if (!empty && !(bytesRead === magic.length && buffer.equals(magic)))
      throw unavailable(`${path} is damaged or no registry; restore it from a backup.`);
  } finally {
    await handle.close();
  }
}

export class LmdbStore {
  readonly #db: RootDatabase<unknown, Key>;
  readonly #me: Opening;
  readonly #beat: NodeJS.Timeout;
  /** Why nothing is read or written any more. */
  #end: (() => ForewordError) | null = null;

  private constructor(db: RootDatabase<unknown, Key>, me: Opening) {
    this.#db = db;
    this.#me = me;
    this.#beat = setInterval(() => void this.#claim().catch(() => {}), signOfLife).unref();
  }

  /** Throws `registry_unavailable` when the folder can't be used or another process holds it. */
  static async open(folder: string): Promise<LmdbStore> {
    try {
      await mkdir(folder, { recursive: true });
      const path = join(folder, fileName);
      await requireLmdbFile(path);
      const db = open<unknown, Key>({ path, noSubdir: true, encoding: "json", ...commits });
      const me = { ...thisOwner(folder), token: randomUUID() };
      const holder = await LmdbStore.#take(db, me);
      if (!holder) return new LmdbStore(db, me);
      await db.close();
      const who = holder.state === "unseen" ? "another container" : `process ${holder.pid}`;
      throw new ForewordError(
        "registry_unavailable",
        `The data folder ${folder} is in use by ${who}; stop that one, or give this one its own FOREWORD_DATA.`,
        { holder: who },
      );
    } catch (error) {
      if (error instanceof ForewordError) throw error;
      throw unavailable(`The registry in ${folder} can't be opened: ${(error as Error).message}`, error);
    }
  }

  /** Makes the folder `me`'s, or says whose it is; one that can't be seen is watched until it stirs, or is silent. */
  static async #take(db: RootDatabase<unknown, Key>, me: Opening): Promise<Holder | null> {
    const began = Date.now();
    for (let first: Holder | null = null; ; await sleep(look)) {
      // The writer's lock is shared between processes: of two that take over at once, one sees the other's claim.
      const holder = db.transactionSync(() => {
        const found = db.get(ownerKey) as OwnerRecord | undefined;
        const state = found ? holds(found, me) : "dead";
        const silent = state === "unseen" && Date.now() - Math.min(began, found!.seen) >= silence;
        const stirred = first !== null && first.seen !== found?.seen;
        if (found && state !== "dead" && (stirred || !silent)) return { ...found, state };
        db.putSync(ownerKey, { ...me, seen: Date.now() });
        return null;
      });
      if (holder?.state !== "unseen" || (first && first.seen !== holder.seen)) return holder;
      first = holder;
    }
  }

  #claim(): Promise<void> {
    return this.write(() => this.put(ownerKey, { ...this.#me, seen: Date.now() }));
  }

  get isOpen(): boolean {
    return this.#end === null;
  }

  #requireOpen(): void {
    if (this.#end) throw this.#end();
  }

  get #isMine(): boolean {
    return this.get<OwnerRecord>(ownerKey)?.token === this.#me.token;
  }

  /** Inside `write` alone: what stood still for long (a paused container) is believed dead, and must not go on. */
  #requireMine(): void {
    if (this.#isMine) return;
    if (this.isOpen) process.emitWarning(takenOver().message);
    this.#end ??= takenOver;
    clearInterval(this.#beat);
    throw this.#end();
  }

  /** Runs `action` in a transaction; what it throws undoes it. Resolves once everything is on disk. */
  async write<Result>(action: () => Result): Promise<Result> {
    this.#requireOpen();
    // The refusal is carried out by hand: the store would wrap what is thrown across its boundary.
    let thrown: unknown;
    try {
      return await this.#db.childTransaction(() => {
        try {
          this.#requireMine();
          return action();
        } catch (error) {
          thrown = error;
          throw error;
        }
      });
    } catch (error) {
      throw asProblem(thrown ?? (await commitFailure(error)));
    }
  }

  /** Runs `action` on what is committed. */
  read<Result>(action: () => Result): Result {
    this.#requireOpen();
    try {
      return action();
    } catch (error) {
      throw asProblem(error);
    }
  }

  get<Value>(key: StoreKey): Value | undefined {
    return this.#db.get(key) as Value | undefined;
  }

  /** Inside `write` alone. */
  put(key: StoreKey, value: unknown): void {
    this.#db.putSync(key, value);
  }

  /** Inside `write` alone. */
  remove(key: StoreKey): void {
    this.#db.removeSync(key);
  }

  /** Values under a prefix in the order of the key's last part, from behind `after`; at most `limit`. */
  values<Value>(prefix: StoreKey, { after, reverse = false, limit }: Range = {}): Value[] {
    const first = after !== undefined && !reverse ? [...prefix, after] : prefix;
    // No text that we use as a key sorts behind U+FFFF, and no number behind any text.
    const last = after !== undefined && reverse ? [...prefix, after] : [...prefix, "\uffff"];
    const range = reverse ? { start: last, end: first, reverse } : { start: first, end: last };
    const found: Value[] = [];
    for (const { key, value } of this.#db.getRange(range)) {
      if (after !== undefined && (key as StoreKey).at(-1) === after) continue;
      found.push(value as Value);
      if (found.length === limit) break;
    }
    return found;
  }

  /** Inside `write` alone: removes all whose keys begin with one of these. */
  removeAll(prefixes: readonly StoreKey[]): void {
    for (const prefix of prefixes)
      for (const key of [...this.#db.getKeys({ start: prefix, end: [...prefix, "\uffff"] })])
        this.#db.removeSync(key);
  }

  /** The rows whose keys begin with each of these, all of one moment. */
  *snapshot(prefixes: readonly StoreKey[]): Generator<Row> {
    this.#requireOpen();
    const transaction = this.#db.useReadTransaction();
    try {
      for (const prefix of prefixes) {
        const range = { start: prefix, end: [...prefix, "\uffff"], transaction };
        for (const { key, value } of this.#db.getRange(range)) yield { key: key as StoreKey, row: value };
      }
    } finally {
      transaction.done();
    }
  }

  /** A consistent copy of the file in `folder`, which is there; the copy has no owner there. */
  async backup(folder: string): Promise<void> {
    this.#requireOpen();
    await this.#db.backup(join(folder, fileName), true);
  }

  async close(): Promise<void> {
    if (this.#end === closed) return;
    this.#end = closed;
    clearInterval(this.#beat);
    // An owner whose process is gone counts for nothing, so a mark that stays does no harm.
    await this.#db.childTransaction(() => this.#isMine && this.#db.removeSync(ownerKey)).catch(commitFailure);
    await this.#db.close();
  }
}

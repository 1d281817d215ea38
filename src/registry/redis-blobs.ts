/**
 * Blobs: a hash `fw:blob:<sha256>` of `bytes` and `put`, a token of the last put, in any slot. Of one that is longer than
 * a part, `bytes` is the first part, which is written last, and `more` how many there are besides (`bytes:1`, …): Redis
 * holds what it is sent in one command several times over while it takes it. Beside the metadata lie an
 * index (SHA-256 → when it was last put), a count of the rows that name each, and those whose put (`pending`) or removal
 * (`removing`) is under way. What can be named is what the index has, and naming is one script with what it is named by.
 * So whoever took an unnamed blob out of the index removes bytes that nothing can name until they are put again; it
 * takes none whose put has begun, of all that put the same bytes (`puts:<sha256>`), and a put that begins later changes
 * the token without which nothing is removed.
 */
import { randomUUID } from "node:crypto";
import { ForewordError } from "../errors.ts";
import { digest, requireName, verified } from "./blobs.ts";
import { blobMissing, unavailable } from "./problems.ts";
import { isFull, LARGE_MS, type RedisConnection } from "./redis-connection.ts";
import { keyOf } from "./redis-rows.ts";
import {
  abandonBlob,
  beginPut,
  completeBlob,
  findUnnamed,
  giveUpBlob,
  holdBlobs,
  indexBlob,
  removeBlob,
  touchBlob,
} from "./redis-scripts.ts";
import { blobGrace } from "./store.ts";

export const blobIndex = keyOf("blobs");
export const blobNames = keyOf("names");
const pending = keyOf("pending");
const removing = keyOf("removing");
const kept = [blobIndex, blobNames, pending, removing];
const hold = keyOf("holders");

const blobKey = (sha256: string): string => `fw:blob:${sha256}`;
const partOf = (at: number): string => `bytes:${at}`;
const putsOf = (sha256: string): string => keyOf(`puts:${sha256}`);

/** The most that one file may take of the memory that all share. */
const LIMIT = 512 * 2 ** 20;
/** A little less than 8 MiB, so that Redis's own header fits into an allocation of 8. */
export const PART = 8 * 2 ** 20 - 4096;
/** How long a backup that fell silent keeps blobs from being removed. */
const HOLD_MS = 600_000;

const tooLarge = (bytes: number) =>
  new ForewordError(
    "body_too_large",
    `Redis keeps files of at most ${LIMIT} bytes (512 MiB); this one has ${bytes}. Make it smaller, or keep the registry in the data folder.`,
    { limit: LIMIT },
  );

export class RedisBlobs {
  readonly #connection: RedisConnection;
  readonly #now: () => number;

  constructor(connection: RedisConnection, now: () => number) {
    this.#connection = connection;
    this.#now = now;
  }

  /** A blob that is there counts as new again, so that the sweep waits another hour. Throws `body_too_large`. */
  async put(bytes: Uint8Array): Promise<string> {
    if (bytes.byteLength > LIMIT) throw tooLarge(bytes.byteLength);
    const sha256 = digest(bytes);
    const [key, puts, token] = [blobKey(sha256), putsOf(sha256), randomUUID()];
    await this.#connection.run(beginPut, [pending, puts], [sha256, this.#now(), token, blobGrace]);
    if ((await this.#connection.write(touchBlob, [key], [token, bytes.byteLength])) === 0)
      await this.#write(key, token, bytes).catch(async error => {
        // A part of a file is of use to nobody, and the sweep comes in an hour.
        await this.#connection.run(abandonBlob, [key], [token]).catch(() => {});
        throw error;
      });
    await this.#connection.write(indexBlob, [blobIndex, pending, puts], [sha256, this.#now(), token]);
    return sha256;
  }

  /** A removal that is under way takes nothing that has this token. */
  async #write(key: string, token: string, bytes: Uint8Array): Promise<void> {
    const { client } = this.#connection;
    const part = (at: number) => Buffer.from(bytes.subarray(at * PART, (at + 1) * PART));
    const others: string[] = [];
    for (let at = 1; at * PART < bytes.byteLength; at++) {
      const written = client.hset(key, "put", token, partOf(at), part(at));
      await this.#connection.inTime(written, LARGE_MS);
      others.push(partOf(at));
    }
    const whole = await this.#connection.write(completeBlob, [key], [token, part(0), ...others], LARGE_MS);
    if (whole === 0) throw unavailable("Redis lost parts of a file while it was written. Try again.");
  }

  async get(sha256: string): Promise<Uint8Array> {
    requireName(sha256);
    const { client } = this.#connection;
    const key = blobKey(sha256);
    const [first, more] = await this.#connection.inTime(client.hmgetBuffer(key, "bytes", "more"), LARGE_MS);
    const parts = [first];
    for (let at = 1; at <= Number(more ?? 0); at++)
      parts.push(await this.#connection.inTime(client.hgetBuffer(key, partOf(at)), LARGE_MS));
    const there = parts.flatMap(part => (part ? [part] : []));
    if (there.length < parts.length) throw blobMissing(sha256);
    return verified(sha256, Buffer.concat(there));
  }

  /** Throws `registry_unavailable` if one of them is not there. */
  async require(names: readonly string[]): Promise<void> {
    const { client } = this.#connection;
    await Promise.all(
      names.map(async sha256 => {
        if ((await this.#connection.inTime(client.hexists(blobKey(sha256), "bytes"))) === 0)
          throw blobMissing(sha256);
      }),
    );
  }

  /** Removes what nothing names and was last put over an hour ago; any number of replicas may do so at once. */
  async sweep(): Promise<number> {
    const before = this.#now() - blobGrace;
    const found = await this.#connection.run(findUnnamed, kept, [before]);
    let removed = 0;
    for (const sha256 of found as string[]) if (await this.#remove(sha256, before)) removed++;
    return removed;
  }

  /** As the registry's. */
  async drop(sha256: string): Promise<boolean> {
    requireName(sha256);
    return this.#remove(sha256, Number.POSITIVE_INFINITY);
  }

  /** Whether this removed it: it was put before then, and nothing names it or is about to. */
  async #remove(sha256: string, before: number): Promise<boolean> {
    const { client } = this.#connection;
    const key = blobKey(sha256);
    // Read before it is given up: whoever puts the blob afterwards changes the token.
    const token = await this.#connection.inTime(client.hget(key, "put"));
    const given = await this.#connection.write(giveUpBlob, [...kept, hold], [sha256, before, this.#now()]);
    if (given === 0) return false;
    const removed = (await this.#connection.run(removeBlob, [key], [token ?? ""])) === 1;
    // Bytes of another put may be what the index lacks now: a later sweep looks for them again.
    if (removed || token === null) await this.#connection.inTime(client.zrem(removing, sha256));
    return removed;
  }

  /** Keeps every replica from removing any blob while `work` runs; a full Redis takes no such word. */
  async held<Result>(work: () => Promise<Result>): Promise<Result> {
    const holder = randomUUID();
    const extend = () => this.#connection.run(holdBlobs, [hold], [holder, HOLD_MS]);
    await extend().catch(error => {
      if (!isFull(error)) throw error;
    });
    const beat = setInterval(() => void extend().catch(() => {}), HOLD_MS / 10);
    try {
      return await work();
    } finally {
      clearInterval(beat);
      await this.#connection.inTime(this.#connection.client.srem(hold, holder)).catch(() => {});
    }
  }
}

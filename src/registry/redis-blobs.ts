/**
 * Blobs: a hash `fw:blob:<sha256>` of `bytes` and `put`, a token of the last put, in any slot. Beside the metadata lie an
 * index (SHA-256 → when it was last put), a count of the rows that name each, and those whose put (`pending`) or removal
 * (`removing`) is under way. What can be named is what the index has, and naming is one script with what it is named by.
 * So whoever took an unnamed blob out of the index removes bytes that nothing can name until they are put again; it
 * takes none whose put has begun, of all that put the same bytes (`puts:<sha256>`), and a put that begins later changes
 * the token without which nothing is removed.
 */
import { randomUUID } from "node:crypto";
import { ForewordError } from "../errors.ts";
import { digest, requireName, verified } from "./blobs.ts";
import { blobMissing } from "./problems.ts";
import { isFull, LARGE_MS, type RedisConnection } from "./redis-connection.ts";
import { keyOf } from "./redis-rows.ts";
import {
  beginPut,
  findUnnamed,
  giveUpBlob,
  holdBlobs,
  indexBlob,
  removeBlob,
  touchBlob,
  writeBlob,
} from "./redis-scripts.ts";
import { blobGrace } from "./store.ts";

export const blobIndex = keyOf("blobs");
export const blobNames = keyOf("names");
const pending = keyOf("pending");
const removing = keyOf("removing");
const kept = [blobIndex, blobNames, pending, removing];
const hold = keyOf("holders");

const blobKey = (sha256: string): string => `fw:blob:${sha256}`;
const putsOf = (sha256: string): string => keyOf(`puts:${sha256}`);

/** What Redis takes as one text (proto-max-bulk-len, as it is set by default); at a longer one it hangs up. */
const LIMIT = 512 * 2 ** 20;
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
    if ((await this.#connection.write(touchBlob, [key], [token])) === 0)
      await this.#connection.write(writeBlob, [key], [token, Buffer.from(bytes)], LARGE_MS);
    await this.#connection.write(indexBlob, [blobIndex, pending, puts], [sha256, this.#now(), token]);
    return sha256;
  }

  async get(sha256: string): Promise<Uint8Array> {
    requireName(sha256);
    const { client } = this.#connection;
    const bytes = await this.#connection.inTime(client.hgetBuffer(blobKey(sha256), "bytes"), LARGE_MS);
    if (bytes === null) throw blobMissing(sha256);
    return verified(sha256, bytes);
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

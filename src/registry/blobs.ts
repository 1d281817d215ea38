/**
 * Blobs as files, `blobs/<2 hex>/<sha256>`. Files rather than LMDB values: a value of megabytes goes through the one
 * writer's transaction and leaves pages that the data file never gives back, where a file is written beside other
 * work, removed for good, and copied or mapped by anyone.
 */
import { createHash, randomUUID } from "node:crypto";
import { constants, statSync, unlinkSync } from "node:fs";
import { copyFile, mkdir, open, readdir, readFile, rename, rm, utimes } from "node:fs/promises";
import { dirname, join } from "node:path";
import { blobDamaged, blobMissing, unavailable } from "./problems.ts";
import { makeFolder, sync } from "./sync.ts";

const name = /^[0-9a-f]{64}$/;
export const digest = (bytes: Uint8Array) => createHash("sha256").update(bytes).digest("hex");

/** Throws `registry_unavailable` for what is no SHA-256. */
export function requireName(sha256: string): void {
  if (!name.test(sha256)) throw unavailable(`"${sha256}" is not the name of a blob.`);
}

/** The bytes, if they are what their name says. */
export function verified(sha256: string, bytes: Uint8Array): Uint8Array {
  if (digest(bytes) !== sha256) throw blobDamaged(sha256);
  return bytes;
}

export class BlobFolder {
  readonly #root: string;

  constructor(root: string) {
    this.#root = root;
  }

  #path(sha256: string): string {
    requireName(sha256);
    return join(this.#root, sha256.slice(0, 2), sha256);
  }

  /**
   * Durable when it resolves; a blob that is there, and undamaged, counts as new again, so that the sweep waits another
   * hour.
   */
  async put(bytes: Uint8Array): Promise<string> {
    const sha256 = digest(bytes);
    const path = this.#path(sha256);
    const now = new Date();
    const there = await utimes(path, now, now)
      .then(() => readFile(path))
      .catch(() => null);
    if (there?.equals(bytes)) return sha256;
    const folder = dirname(path);
    const temporary = join(folder, `.${randomUUID()}`);
    try {
      await makeFolder(folder);
      const handle = await open(temporary, "wx");
      try {
        await handle.writeFile(bytes);
        await handle.sync();
      } finally {
        await handle.close();
      }
      await rename(temporary, path);
      await sync(folder);
    } catch (error) {
      // If this fails too, the first failure says why; what stays is swept later.
      await rm(temporary, { force: true }).catch(() => {});
      throw unavailable("A blob can't be written; see that the disk has room.", error);
    }
    return sha256;
  }

  async get(sha256: string): Promise<Uint8Array> {
    const bytes = await readFile(this.#path(sha256)).catch(error => {
      throw error.code === "ENOENT"
        ? blobMissing(sha256)
        : unavailable(`Blob ${sha256} can't be read.`, error);
    });
    return verified(sha256, bytes);
  }

  /** Synchronous, since it is asked inside a transaction. */
  has(sha256: string): boolean {
    return statSync(this.#path(sha256), { throwIfNoEntry: false }) !== undefined;
  }

  /** Every file's name: blobs, and temporaries that a dead writer left. */
  async #files(): Promise<{ folder: string; file: string }[]> {
    const folders = await readdir(this.#root, { withFileTypes: true });
    const lists = folders
      .filter(entry => entry.isDirectory())
      .map(async ({ name: folder }) =>
        (await readdir(join(this.#root, folder))).map(file => ({ folder, file })),
      );
    return (await Promise.all(lists)).flat();
  }

  /** Files last put before `before` (milliseconds since the epoch). */
  async olderThan(before: number): Promise<string[]> {
    return (await this.#files())
      .map(({ folder, file }) => join(folder, file))
      .filter(file => this.#older(file, before));
  }

  #older(file: string, before: number): boolean {
    const status = statSync(join(this.#root, file), { throwIfNoEntry: false });
    return status !== undefined && status.mtimeMs < before;
  }

  /** Synchronous, for inside a transaction: removes the file if it is still as old; says whether it did. */
  removeIfOlder(file: string, before: number): boolean {
    if (!this.#older(file, before)) return false;
    unlinkSync(join(this.#root, file));
    return true;
  }

  /** As `removeIfOlder`, whatever its age. */
  remove(sha256: string): boolean {
    requireName(sha256);
    return this.removeIfOlder(join(sha256.slice(0, 2), sha256), Number.POSITIVE_INFINITY);
  }

  /** On disk once the copy's folder is synchronised. */
  async copyTo(root: string): Promise<void> {
    await mkdir(root, { recursive: true });
    for (const { folder, file } of await this.#files()) {
      if (!name.test(file)) continue;
      await mkdir(join(root, folder), { recursive: true });
      await copyFile(join(this.#root, folder, file), join(root, folder, file), constants.COPYFILE_FICLONE);
    }
  }
}

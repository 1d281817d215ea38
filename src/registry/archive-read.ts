import { createHash } from "node:crypto";
import { buffer } from "node:stream/consumers";
import { Check } from "typebox/value";
import { type Entry, openPromise, type ZipFile } from "yauzl";
import { ForewordError } from "../errors.ts";
import { BLOBS, MANIFEST, Manifest, ROWS, refused } from "./archive.ts";
import type { Registry } from "./registry.ts";
import { blobsOf, type Row, rowKinds } from "./store.ts";

/** The largest manifest; the usual one has a few hundred bytes. */
const MANIFEST_BYTES = 100_000;

export interface RestoreOptions {
  /** In place of what the registry holds. */
  replace?: boolean;
}

/** An archive whose every byte was checked when it was opened. */
export class Archive {
  readonly #path: string;
  readonly #zip: ZipFile;
  readonly #entries: ReadonlyMap<string, Entry>;
  readonly manifest: Manifest;

  private constructor(path: string, zip: ZipFile, entries: ReadonlyMap<string, Entry>, manifest: Manifest) {
    this.#path = path;
    this.#zip = zip;
    this.#entries = entries;
    this.manifest = manifest;
  }

  /** Reads it whole, a part at a time. Throws `validation` where anything is missing, too much, or not what it was. */
  static async open(path: string): Promise<Archive> {
    const zip = await openPromise(path, { autoClose: false }).catch(error => {
      const { code, message } = error as NodeJS.ErrnoException;
      throw refused(path, code ? `it can't be read (${code}).` : damage(message));
    });
    try {
      const entries = new Map<string, Entry>();
      for await (const entry of zip.eachEntry()) {
        if (entries.has(entry.fileName)) throw new Error(`${entry.fileName} is there twice`);
        entries.set(entry.fileName, entry);
      }
      const archive = new Archive(path, zip, entries, await manifestOf(path, zip, entries));
      await archive.#check();
      return archive;
    } catch (error) {
      zip.close();
      throw error instanceof ForewordError ? error : refused(path, damage((error as Error).message));
    }
  }

  /**
   * Everything at once, or nothing. Throws `validation` where the registry holds something and is not to be replaced,
   * `registry_unavailable`.
   */
  async restore(registry: Registry, { replace = false }: RestoreOptions = {}): Promise<void> {
    const taken =
      (replace || (await registry.isEmpty())) &&
      (await registry.replaceRows(this.#rowsAfterBlobs(registry), { ifEmpty: !replace }));
    if (!taken)
      throw refused(
        this.#path,
        "the registry that it would go to is not empty, and nothing was changed. Give an empty one, or put it in place of all that is there with --replace.",
      );
  }

  close(): void {
    this.#zip.close();
  }

  #stream(name: string) {
    return this.#zip.openReadStreamPromise(this.#entries.get(name)!);
  }

  /** Each behind the blobs that it names, which the registry then has. */
  async *#rowsAfterBlobs(registry: Registry): AsyncGenerator<Row> {
    const put = new Set<string>();
    for await (const row of this.#rows()) {
      for (const sha256 of blobsOf(row.key, row.row)) {
        if (put.has(sha256)) continue;
        await registry.putBlob(await buffer(await this.#stream(`${BLOBS}${sha256}`)));
        put.add(sha256);
      }
      yield row;
    }
  }

  async *#rows(hash = createHash("sha256")): AsyncGenerator<Row> {
    for await (const line of linesOf(await this.#stream(ROWS))) {
      hash.update(line).update("\n");
      const [key, row] = JSON.parse(line.toString()) as [Row["key"], unknown];
      if (!rowKinds.some(kind => kind === key[0])) throw new Error(`there are no rows called ${key[0]}`);
      yield { key, row };
    }
  }

  async #check(): Promise<void> {
    const { rows, blobs } = this.manifest;
    const named = new Set<string>();
    const hash = createHash("sha256");
    let count = 0;
    for await (const { key, row } of this.#rows(hash)) {
      count++;
      for (const sha256 of blobsOf(key, row)) named.add(sha256);
    }
    if (count !== rows.count || hash.digest("hex") !== rows.sha256) throw new Error(`${ROWS} has changed`);
    for (const sha256 of named) {
      const name = `${BLOBS}${sha256}`;
      if (!this.#entries.has(name)) throw new Error(`${name} is missing`);
      const bytes = createHash("sha256");
      for await (const chunk of await this.#stream(name)) bytes.update(chunk);
      if (bytes.digest("hex") !== sha256) throw new Error(`${name} has changed`);
    }
    if (named.size !== blobs || this.#entries.size !== blobs + 2) throw new Error("it holds too much");
  }
}

async function manifestOf(
  path: string,
  zip: ZipFile,
  entries: ReadonlyMap<string, Entry>,
): Promise<Manifest> {
  const entry = entries.get(MANIFEST);
  if (!entry || !entries.has(ROWS) || entry.uncompressedSize > MANIFEST_BYTES)
    throw refused(path, "it is no archive of a registry. Make one with foreword export.");
  const manifest: unknown = JSON.parse(String(await buffer(await zip.openReadStreamPromise(entry))));
  if (Check(Manifest, manifest)) return manifest;
  throw refused(
    path,
    `it is of a format that this version does not read (${JSON.stringify((manifest as { format?: unknown } | null)?.format)}).`,
  );
}

const damage = (why: string): string =>
  `it is damaged or incomplete (${why}), and nothing was changed. Copy it again, or make a new one with foreword export.`;

/** Lines without their ends; a text may hold any other character that ends lines elsewhere. */
async function* linesOf(source: AsyncIterable<Buffer>): AsyncGenerator<Buffer> {
  let rest: Buffer[] = [];
  for await (const chunk of source) {
    let from = 0;
    for (let end = chunk.indexOf(10); end >= 0; end = chunk.indexOf(10, from)) {
      yield Buffer.concat([...rest, chunk.subarray(from, end)]);
      rest = [];
      from = end + 1;
    }
    if (from < chunk.length) rest.push(chunk.subarray(from));
  }
  if (rest.length > 0) throw new Error("its last row is cut off");
}

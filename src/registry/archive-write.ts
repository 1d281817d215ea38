import { createHash } from "node:crypto";
import { createWriteStream, existsSync } from "node:fs";
import { rename, rm } from "node:fs/promises";
import { Readable, type Writable } from "node:stream";
import { pipeline } from "node:stream/promises";
import { ZipFile } from "yazl";
import { BLOBS, countOf, FORMAT, MANIFEST, type Manifest, ROWS, refused } from "./archive.ts";
import type { JobRecord, Registry } from "./registry.ts";
import { blobsOf, type JobPlace, type Row } from "./store.ts";

/**
 * Writes a registry of one moment into a new file, which is there when it is whole. Holds a blob and a few rows at a
 * time. Errors: `validation` where the file exists or can't be written, `registry_unavailable`.
 */
export async function writeArchive(registry: Registry, path: string): Promise<Manifest> {
  if (existsSync(path)) throw refused(path, "it exists already. Name another file, or remove it.");
  const partial = `${path}.partial`;
  try {
    const manifest = await registry.snapshot(rows =>
      write(registry, rows, createWriteStream(partial, { flush: true })),
    );
    await rename(partial, path);
    return manifest;
  } catch (error) {
    await rm(partial, { force: true });
    const { code, syscall } = error as NodeJS.ErrnoException;
    throw syscall === undefined ? error : refused(path, `it can't be written (${code}).`);
  }
}

async function write(registry: Registry, rows: AsyncIterable<Row>, target: Writable): Promise<Manifest> {
  const created_at = new Date().toISOString();
  const counts = { tasks: 0, prompts: 0, datasets: 0, jobs: 0 };
  const [named, open] = [new Set<string>(), new Set<string>()];
  const hash = createHash("sha256");
  let count = 0;

  async function* lines(): AsyncGenerator<Buffer> {
    for await (const { key, row } of rows) {
      if (isOpen(key, row, open)) continue;
      for (const sha256 of blobsOf(key, row)) named.add(sha256);
      const what = countOf(key);
      if (what) counts[what]++;
      count++;
      const line = Buffer.from(`${JSON.stringify([key, row])}\n`);
      hash.update(line);
      yield line;
    }
  }

  const zip = new ZipFile();
  const output = zip.outputStream as Readable;
  zip.on("error", error => output.destroy(error as Error));
  const written = pipeline(output, target);
  const options = { mtime: new Date(created_at) };
  const stream = Readable.from(lines());
  // Rows that nobody will read are given back.
  written.catch(() => stream.destroy());
  const ended = new Promise<void>((resolve, reject) => {
    stream.once("end", resolve);
    stream.once("error", reject);
    written.catch(reject);
  });
  zip.addReadStream(stream, ROWS, { ...options, forceZip64Format: true });
  await ended;
  // Numbers do not get shorter.
  for (const sha256 of named)
    zip.addReadStreamLazy(`${BLOBS}${sha256}`, { ...options, compress: false }, done => {
      registry.getBlob(sha256).then(
        bytes => done(null, Readable.from([bytes])),
        error => done(error, Readable.from([])),
      );
    });
  const manifest: Manifest = {
    format: FORMAT,
    created_at,
    rows: { count, sha256: hash.digest("hex") },
    blobs: named.size,
    ...counts,
    left_out: { open_jobs: open.size },
  };
  zip.addBuffer(Buffer.from(JSON.stringify(manifest)), MANIFEST, options);
  zip.end();
  await written;
  return manifest;
}

/** Whether a row is of a job that has not ended; jobs come before their places. */
function isOpen([kind]: Row["key"], row: unknown, open: Set<string>): boolean {
  if (kind === "open-job") return true;
  if (kind === "job-order") return open.has((row as JobPlace).id);
  if (kind !== "job" || (row as JobRecord).ended_at !== null) return false;
  open.add((row as JobRecord).id);
  return true;
}

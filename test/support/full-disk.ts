/**
 * A disk without room, for one process: the kernel refuses every write behind a file's first `bytes`, as it refuses
 * one on a full disk. The process must have a handler for SIGXFSZ, which would end it otherwise.
 */
import { execFile } from "node:child_process";
import { promisify } from "node:util";
import { afterAll, afterEach, beforeAll } from "vitest";

const run = promisify(execFile);

/** For a block of tests that fill the disk of their own process: it survives, and each leaves room behind it. */
export function fillsOwnDisk(): void {
  const survive = () => {};
  beforeAll(() => void process.on("SIGXFSZ", survive));
  afterEach(() => emptyDisk(process.pid));
  afterAll(() => void process.removeListener("SIGXFSZ", survive));
}

/** For the command line of a process that is to survive it. */
export const surviving = ["--import", "data:text/javascript,process.on('SIGXFSZ',()=>{})"];

export async function fillDisk(pid: number, bytes: number): Promise<void> {
  await run("prlimit", ["--pid", String(pid), `--fsize=${bytes}:`]);
}

export async function emptyDisk(pid: number): Promise<void> {
  await run("prlimit", ["--pid", String(pid), "--fsize=unlimited:"]);
}

/**
 * A disk without room, for one process: the kernel refuses every write behind a file's first `bytes`, as it refuses
 * one on a full disk. The process must have a handler for SIGXFSZ, which would end it otherwise.
 */
import { execFile } from "node:child_process";
import { promisify } from "node:util";

const run = promisify(execFile);

/** For the command line of a process that is to survive it. */
export const surviving = ["--import", "data:text/javascript,process.on('SIGXFSZ',()=>{})"];

export async function fillDisk(pid: number, bytes: number): Promise<void> {
  await run("prlimit", ["--pid", String(pid), `--fsize=${bytes}:`]);
}

export async function emptyDisk(pid: number): Promise<void> {
  await run("prlimit", ["--pid", String(pid), "--fsize=unlimited:"]);
}

/**
 * A folder that is there when it is whole: it is written beside its place, under a name that no caller chooses, and takes
 * its own in one step. What a writer leaves that is killed is in nobody's way, and goes when the next one begins.
 */
import { randomUUID } from "node:crypto";
import { mkdir, readdir, rename, rm, stat } from "node:fs/promises";
import { basename, dirname, join, resolve } from "node:path";
import { ForewordError } from "../errors.ts";
import { backupExists, unavailable } from "./problems.ts";
import { makeFolder, sync, syncAll } from "./sync.ts";

/** No id begins with a dot. */
const scratchName = /^\..+\.[0-9a-f-]{36}\.partial$/;
/** A writer that has changed nothing for so long is dead. */
const SILENT_MS = 600_000;

/** Whether it is what a writer works on, or left. */
export const isPartial = (folder: string): boolean => scratchName.test(basename(resolve(folder)));

/**
 * `write` fills the folder that it is given, which then becomes `folder`, and is on disk. Errors: `validation` where
 * there is something of that name, before or after the work; `registry_unavailable`. Work that failed leaves nothing.
 */
export async function writeWhole(folder: string, write: (scratch: string) => Promise<void>): Promise<void> {
  const [parent, name] = [dirname(resolve(folder)), basename(resolve(folder))];
  const scratch = join(parent, `.${name}.${randomUUID()}.partial`);
  try {
    if (await isTaken(folder)) throw backupExists(name);
    await makeFolder(parent);
    // What can't be removed, another user's say, is in nobody's way.
    await removeSilent(parent).catch(() => {});
    await mkdir(scratch);
    await write(scratch);
    await syncAll(scratch);
    await rename(scratch, folder);
    await sync(parent);
  } catch (error) {
    await rm(scratch, { recursive: true, force: true }).catch(() => {});
    throw toProblem(error, name);
  }
}

/** An empty folder is not: the step that gives the name takes its place too. */
async function isTaken(folder: string): Promise<boolean> {
  try {
    return (await readdir(folder)).length > 0;
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === "ENOENT" || code === "ENOTDIR") return code === "ENOTDIR";
    throw error;
  }
}

/** What a step says that gives a name which another writer took meanwhile. */
const lost = new Set(["ENOTEMPTY", "EEXIST", "ENOTDIR"]);

function toProblem(error: unknown, name: string): ForewordError {
  if (error instanceof ForewordError) return error;
  const { code, syscall } = error as NodeJS.ErrnoException;
  if (syscall === "rename" && lost.has(code!)) return backupExists(name);
  return unavailable("The backup can't be written; see that the disk has room.", error);
}

/** Those that change or end while one looks are not silent. */
async function removeSilent(parent: string): Promise<void> {
  for (const path of (await readdir(parent)).filter(isPartial).map(name => join(parent, name))) {
    const changed = await lastChange(path).catch(() => Number.POSITIVE_INFINITY);
    if (changed < Date.now() - SILENT_MS) await rm(path, { recursive: true, force: true });
  }
}

async function lastChange(folder: string): Promise<number> {
  let last = 0;
  for (const file of [".", ...(await readdir(folder, { recursive: true }))])
    last = Math.max(last, (await stat(join(folder, file))).mtimeMs);
  return last;
}

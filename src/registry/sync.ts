/** What was written is on disk: a file's contents, and a folder's, which are the names in it. */
import { mkdir, open, readdir } from "node:fs/promises";
import { dirname, join, resolve } from "node:path";

export async function sync(path: string): Promise<void> {
  const handle = await open(path, "r");
  try {
    await handle.sync();
  } finally {
    await handle.close();
  }
}

/** A folder with all that is in it, one after another: there may be more files than a process may open. */
export async function syncAll(folder: string): Promise<void> {
  for (const entry of await readdir(folder, { withFileTypes: true }))
    await (entry.isDirectory() ? syncAll : sync)(join(folder, entry.name));
  await sync(folder);
}

/** Makes a folder, and those above it that are not there. */
export async function makeFolder(folder: string): Promise<void> {
  const last = resolve(folder);
  const first = await mkdir(last, { recursive: true });
  if (first === undefined) return;
  for (let made = last; made.length >= first.length; made = dirname(made)) await sync(dirname(made));
}

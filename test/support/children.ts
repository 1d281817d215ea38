/** Processes that a process has started, by the module that they run; one that has said its outcome may still be ending. */
import { readdir, readFile } from "node:fs/promises";

export type Module = "training/process" | "compile/process";

export async function childrenOf(pid: number, module: Module): Promise<number[]> {
  // Each thread has children of its own.
  const threads = await readdir(`/proc/${pid}/task`).catch(() => []);
  const listed = await Promise.all(
    threads.map(thread => readFile(`/proc/${pid}/task/${thread}/children`, "utf8").catch(() => "")),
  );
  const pids = listed.join(" ").split(" ").filter(Boolean).map(Number);
  const found = await Promise.all(pids.map(async child => ((await runs(child, module)) ? [child] : [])));
  return found.flat();
}

export async function runs(pid: number, module: Module): Promise<boolean> {
  return (await readFile(`/proc/${pid}/cmdline`, "utf8").catch(() => "")).includes(module);
}

/** Of this process. */
export const trainers = (): Promise<number[]> => childrenOf(process.pid, "training/process");

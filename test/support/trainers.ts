/** Trainers that this process has started and that are still there; one that has said its outcome may still be ending. */
import { readFile } from "node:fs/promises";

export async function trainers(): Promise<number[]> {
  const children = await readFile(`/proc/${process.pid}/task/${process.pid}/children`, "utf8");
  const pids = children.trim().split(" ").filter(Boolean).map(Number);
  const found = await Promise.all(
    pids.map(async pid => {
      const command = await readFile(`/proc/${pid}/cmdline`, "utf8").catch(() => "");
      return command.includes("training/process") ? [pid] : [];
    }),
  );
  return found.flat();
}

/** Who holds a data folder: told apart by more than a process id, which a restarted container or machine gives again. */
import { existsSync, readFileSync, readlinkSync, statSync } from "node:fs";
import { isAlive } from "../processes.ts";

export interface Owner {
  pid: number;
  /** When the process started, in clock ticks since boot; null where the system doesn't say. */
  started: string | null;
  boot: string | null;
  /** The process-id namespace: from inside one container, another's processes can't be seen. */
  namespace: string | null;
  /** The folder's device and inode: a copied folder, a backup above all, belongs to nobody. */
  folder: string;
}

function quietly(read: () => string): string | null {
  try {
    return read();
  } catch {
    return null;
  }
}

/** Field 22 of /proc/<pid>/stat; the fields are counted from behind the command, which may hold anything. */
function startOf(pid: number | "self"): string | null {
  const status = quietly(() => readFileSync(`/proc/${pid}/stat`, "utf8"));
  return status?.slice(status.lastIndexOf(")") + 2).split(" ")[19] ?? null;
}

export function thisOwner(folder: string): Owner {
  const { dev, ino } = statSync(folder);
  return {
    pid: process.pid,
    started: startOf("self"),
    boot: quietly(() => readFileSync("/proc/sys/kernel/random/boot_id", "utf8").trim()),
    namespace: quietly(() => readlinkSync("/proc/self/ns/pid")),
    folder: `${dev}:${ino}`,
  };
}

/** `unseen`: another container of this machine holds it, and only its sign of life can say whether it still runs. */
export function holds(owner: Owner, me: Owner): "alive" | "dead" | "unseen" {
  if (owner.folder !== me.folder || owner.boot !== me.boot) return "dead";
  if (owner.namespace !== me.namespace) return "unseen";
  if (existsSync("/proc/self/stat")) return startOf(owner.pid) === owner.started ? "alive" : "dead";
  return isAlive(owner.pid) ? "alive" : "dead";
}

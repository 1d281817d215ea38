/** Processes beside the one that answers. */
import { type ChildProcess, fork } from "node:child_process";
import { fileURLToPath } from "node:url";

/** Whether there is such a process, another user's too. */
export function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === "EPERM";
  }
}

/** Starts a module, named without its extension: run from source (tests, development), it is TypeScript. */
export function startProcess(module: URL, env: Readonly<Record<string, string>> = {}): ChildProcess {
  const source = import.meta.url.endsWith(".ts");
  return fork(`${fileURLToPath(module)}.${source ? "ts" : "js"}`, {
    serialization: "advanced",
    env: { ...process.env, ...env },
    stdio: ["ignore", "ignore", "inherit", "ipc"],
    execArgv: source ? ["--import", import.meta.resolve("tsx")] : [],
  });
}

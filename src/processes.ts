/** Processes of our own, beside the one that answers. */
import { type ChildProcess, fork } from "node:child_process";
import { fileURLToPath } from "node:url";

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

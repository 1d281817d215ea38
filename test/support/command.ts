/** The command line as a process of its own, run from source. */
import { type ChildProcess, spawn } from "node:child_process";
import { fileURLToPath } from "node:url";

export const command = fileURLToPath(new URL("../../src/cli/main.ts", import.meta.url));

export interface Ended {
  code: number | null;
  out: string;
  err: string;
}

/** `started` is told of the process, for a test that signals it; `input` is its standard input, which null leaves open. */
export function foreword(
  args: readonly string[],
  {
    env = {},
    input = "",
    started = () => {},
  }: { env?: Record<string, string>; input?: string | null; started?: (child: ChildProcess) => void } = {},
): Promise<Ended> {
  return new Promise((resolve, reject) => {
    const child = spawn(process.execPath, ["--import", "tsx", command, ...args], {
      env: { ...process.env, ...env },
    });
    const ended = { out: "", err: "" };
    child.stdout.on("data", chunk => {
      ended.out += chunk;
    });
    child.stderr.on("data", chunk => {
      ended.err += chunk;
    });
    child.once("error", reject);
    child.once("close", code => resolve({ code, ...ended }));
    if (input !== null) child.stdin.end(input);
    started(child);
  });
}

/** One service of compose.yaml as a process of this machine: its command and environment, without the walls. */
import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import { setTimeout as sleep } from "node:timers/promises";
import { root } from "./tools.ts";

export class Container {
  readonly #command: readonly string[];
  readonly #env: Record<string, string>;
  readonly #cwd: string;
  #child: ChildProcess | null = null;
  /** What it said, in all its lives. */
  output = "";

  constructor(command: readonly string[], env: Record<string, string>, cwd = root) {
    this.#command = command;
    this.#cwd = cwd;
    this.#env = { PATH: process.env.PATH!, ...env };
  }

  start(): void {
    const [program, ...args] = this.#command;
    const child = spawn(program!, args, { cwd: this.#cwd, env: this.#env });
    for (const stream of [child.stdout, child.stderr])
      stream.on("data", chunk => {
        this.output += chunk;
      });
    this.#child = child;
  }

  /** The exit code of a command in the same surroundings, as health checks are. */
  run(command: readonly string[]): number | null {
    const [program, ...args] = command;
    return spawnSync(program!, args, { cwd: this.#cwd, env: this.#env }).status;
  }

  /** Its exit code, null where it was killed, and the seconds that it took. */
  async stop(signal: NodeJS.Signals = "SIGTERM"): Promise<{ code: number | null; seconds: number }> {
    const child = this.#child!;
    const began = performance.now();
    const ended = new Promise<number | null>(resolve => child.once("exit", resolve));
    const running = child.exitCode === null && child.signalCode === null;
    if (running) child.kill(signal);
    return { code: running ? await ended : child.exitCode, seconds: (performance.now() - began) / 1000 };
  }

  async until(condition: () => Promise<boolean>, seconds: number): Promise<void> {
    for (const end = Date.now() + seconds * 1000; Date.now() < end; await sleep(50))
      if (await condition().catch(() => false)) return;
    throw new Error(`not within ${seconds} s; it said:\n${this.output.slice(-2000)}`);
  }
}

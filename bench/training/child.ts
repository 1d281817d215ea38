/** A training run of Foreword's in a child process, taken a few steps at a time. */
import { type ChildProcess, fork } from "node:child_process";
import { once } from "node:events";
import { fileURLToPath } from "node:url";
import type { TrainJob } from "../../src/training/job.ts";

export interface Opening {
  job: TrainJob;
  /** A path. */
  backbone: string;
  /** Holds the compiled weights. */
  data: string;
  threads: number;
}

export type ToChild = ({ type: "open" } & Opening) | { type: "steps"; count: number };
export type FromChild = { type: "ready" } | { type: "times"; milliseconds: number[] };

export class ForewordRun {
  readonly #child: ChildProcess;

  private constructor(child: ChildProcess) {
    this.#child = child;
  }

  /** Resolves once the backbone is loaded. */
  static async start(opening: Opening): Promise<ForewordRun> {
    const child = fork(fileURLToPath(new URL("./foreword.ts", import.meta.url)), {
      serialization: "advanced",
      execArgv: ["--import", import.meta.resolve("tsx")],
    });
    const run = new ForewordRun(child);
    await run.#ask({ type: "open", ...opening });
    return run;
  }

  /** Milliseconds of each of `count` steps, from the first micro-batch to the changed parameters. */
  async steps(count: number): Promise<number[]> {
    const reply = await this.#ask({ type: "steps", count });
    return reply.type === "times" ? reply.milliseconds : [];
  }

  stop(): void {
    this.#child.kill("SIGKILL");
  }

  /** Throws where the child ends instead. */
  async #ask(message: ToChild): Promise<FromChild> {
    const over = new AbortController();
    const ended = once(this.#child, "exit", over).then(([code]) => {
      throw new Error(`a training run ended with ${code}: its messages are above`);
    });
    ended.catch(() => {});
    this.#child.send(message);
    try {
      const [reply] = await Promise.race([once(this.#child, "message", over), ended]);
      return reply as FromChild;
    } finally {
      over.abort();
    }
  }
}

/** The queue inside the server's process, over its own registry. */
import type { JobRecord } from "../registry/registry.ts";
import { type AttemptOptions, attemptJob, type Running } from "./attempt.ts";
import type { JobRequest, Jobs } from "./jobs.ts";
import { cancelled, putQueued } from "./queued.ts";

export interface EmbeddedOptions extends AttemptOptions {
  /** Jobs that run at once; one machine trains one prompt at a time best. */
  concurrency?: number;
}

/** Takes up what a queue before it left unfinished. */
export async function openEmbeddedJobs(options: EmbeddedOptions): Promise<Jobs> {
  const queue = new EmbeddedJobs(options);
  await queue.takeUp();
  return queue;
}

class EmbeddedJobs implements Jobs {
  readonly #options: EmbeddedOptions;
  /** In the order in which they came. */
  readonly #waiting: { id: string; task: string }[] = [];
  readonly #running = new Map<string, Running>();
  readonly #closing = new AbortController();

  constructor(options: EmbeddedOptions) {
    this.#options = options;
  }

  async takeUp(): Promise<void> {
    // What was running is the oldest of its task, and so goes on first.
    this.#waiting.push(...(await this.#options.registry.openJobs()));
    this.#next();
  }

  async submit(request: JobRequest): Promise<JobRecord> {
    const open = this.#waiting.length + this.#running.size;
    const job = await putQueued(this.#options.registry, request, open);
    this.#waiting.push({ id: job.id, task: job.task });
    this.#next();
    return job;
  }

  async cancel(id: string): Promise<JobRecord> {
    const job = await this.#options.registry.getJob(id);
    const running = this.#running.get(id);
    if (running) {
      running.cancelled = true;
      running.abort.abort();
      await running.done;
      return this.#options.registry.getJob(id);
    }
    const at = this.#waiting.findIndex(each => each.id === id);
    if (at < 0) return job;
    this.#waiting.splice(at, 1);
    return this.#options.registry.updateJob(id, cancelled());
  }

  async cancelTask(task: string): Promise<void> {
    const ids = [...this.#waiting, ...[...this.#running].map(([id, running]) => ({ id, ...running }))];
    for (const { id } of ids.filter(each => each.task === task)) await this.cancel(id);
  }

  async close(): Promise<void> {
    this.#closing.abort();
    this.#waiting.length = 0;
    for (const { abort } of this.#running.values()) abort.abort();
    await Promise.all([...this.#running.values()].map(({ done }) => done));
  }

  /** Starts what may start: the oldest whose task runs nothing. */
  #next(): void {
    const { concurrency = 1 } = this.#options;
    while (!this.#closing.signal.aborted && this.#running.size < concurrency) {
      const busy = new Set([...this.#running.values()].map(({ task }) => task));
      const at = this.#waiting.findIndex(({ task }) => !busy.has(task));
      if (at < 0) return;
      const [{ id, task }] = this.#waiting.splice(at, 1) as [{ id: string; task: string }];
      const running: Running = {
        task,
        cancelled: false,
        abort: new AbortController(),
        done: Promise.resolve(),
      };
      this.#running.set(id, running);
      running.done = this.#run(id, running)
        .catch(error => this.#options.log.error({ err: error, job: id }, "a job's record can't be written"))
        .finally(() => {
          this.#running.delete(id);
          this.#next();
        });
    }
  }

  async #run(id: string, running: Running): Promise<void> {
    const ending = await attemptJob(this.#options, id, running, this.#closing.signal);
    if (ending !== "interrupted") return;
    // A cancel that came while its process was found dead.
    if (running.cancelled) await this.#options.registry.updateJob(id, cancelled());
    else this.#waiting.unshift({ id, task: running.task });
  }
}

/** The queue inside the server's process, over its own registry. */
import { setTimeout as sleep } from "node:timers/promises";
import { ForewordError } from "../errors.ts";
import type { JobRecord } from "../registry/registry.ts";
import { type AttemptOptions, attemptJob, newRun, type Running } from "./attempt.ts";
import type { JobRequest, Jobs } from "./jobs.ts";
import { patiently } from "./patience.ts";
import { cancelAll, cancelled, endCancelled, putQueued } from "./queued.ts";

/** How long a caller who cancels a job waits for its end. */
const STOP_MS = 5000;

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
    // A submission that is repeated, its reply having been lost, finds the job that it made.
    const known = this.#running.has(job.id) || this.#waiting.some(({ id }) => id === job.id);
    if (!known) this.#waiting.push({ id: job.id, task: job.task });
    this.#next();
    return job;
  }

  async cancel(id: string): Promise<JobRecord> {
    const { registry } = this.#options;
    for (;;) {
      const job = await registry.getJob(id);
      if (job.ended_at !== null) return job;
      const running = this.#running.get(id);
      if (running) await stop(running);
      else {
        // Written first: a job of which it can't be written keeps its place.
        const ended = await endCancelled(registry, job);
        if (ended === null) continue;
        this.#forget(id);
        return ended;
      }
    }
  }

  cancelTask(task: string): Promise<void> {
    return cancelAll(this.#options.registry, task, id => this.cancel(id));
  }

  async close(): Promise<void> {
    this.#closing.abort();
    this.#waiting.length = 0;
    for (const { abort } of this.#running.values()) abort.abort();
    await Promise.all([...this.#running.values()].map(({ done }) => done));
  }

  /** A job that its record has ended. */
  #forget(id: string): void {
    const at = this.#waiting.findIndex(each => each.id === id);
    if (at >= 0) this.#waiting.splice(at, 1);
    // It may have begun while its end was written.
    this.#running.get(id)?.abort.abort();
  }

  /** Starts what may start: the oldest whose task runs nothing. */
  #next(): void {
    const { concurrency = 1 } = this.#options;
    while (!this.#closing.signal.aborted && this.#running.size < concurrency) {
      const busy = new Set([...this.#running.values()].map(({ task }) => task));
      const at = this.#waiting.findIndex(({ task }) => !busy.has(task));
      if (at < 0) return;
      const [{ id, task }] = this.#waiting.splice(at, 1) as [{ id: string; task: string }];
      const running = newRun(task);
      this.#running.set(id, running);
      running.done = this.#run(id, running).finally(() => {
        this.#running.delete(id);
        this.#next();
      });
    }
  }

  /** Never throws: whatever becomes of an attempt, a job that is still open is this queue's. */
  async #run(id: string, running: Running): Promise<void> {
    const { signal } = this.#closing;
    const told = (error: unknown) =>
      this.#options.log.error({ err: error, job: id }, "a job's record can't be written");
    const ending = await attemptJob(this.#options, id, running, signal).catch(told);
    if (ending === "ended" || signal.aborted) return;
    const patience = { signal, within: Number.POSITIVE_INFINITY, onFailure: told };
    await patiently(() => this.#settle(id, running), patience).catch(told);
  }

  /** A job that its attempt has left open: if it was cancelled, it ends; if not, it goes on before others of its task. */
  async #settle(id: string, running: Running): Promise<void> {
    const { registry } = this.#options;
    const open = await registry.openJobs();
    if (!open.some(each => each.id === id)) return;
    // A cancel that came while its process was found dead is heard here.
    if (running.cancelled) await registry.updateJob(id, cancelled());
    else this.#waiting.unshift({ id, task: running.task });
  }
}

/** Throws `registry_unavailable` where its end can't be written soon: it is written whenever that can be. */
async function stop(running: Running): Promise<void> {
  running.cancelled = true;
  running.abort.abort();
  const late = sleep(STOP_MS, "late", { ref: false });
  if ((await Promise.race([running.done, late])) === "late")
    throw new ForewordError(
      "registry_unavailable",
      "The job is stopped; its record will say so as soon as the registry takes writes.",
    );
}

/** The queue inside the server's process, over its own registry. */
import { randomUUID } from "node:crypto";
import { ForewordError } from "../errors.ts";
import type { JobRecord, Registry } from "../registry/registry.ts";
import { Interrupted, type JobRequest, type Jobs, type Runner } from "./jobs.ts";
import { patiently } from "./patience.ts";
import { JobWriter } from "./writer.ts";

/** Jobs that have not ended, at most. */
const LIMIT = 1000;
/** Starts without a checkpoint between, after which a job has failed. */
const ATTEMPTS = 3;

export interface EmbeddedOptions {
  registry: Registry;
  runner: Runner;
  /** Jobs that run at once; one machine trains one prompt at a time best. */
  concurrency?: number;
  /** Told of what no caller is told in full. */
  log: { error(fields: object, text: string): void };
}

interface Running {
  task: string;
  cancelled: boolean;
  abort: AbortController;
  done: Promise<void>;
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

  async submit({ task, kind, request, blobs }: JobRequest): Promise<JobRecord> {
    if (this.#waiting.length + this.#running.size >= LIMIT)
      throw new ForewordError(
        "queue_full",
        `${LIMIT} jobs are waiting. Try again when some have ended, or cancel some.`,
      );
    const job = await this.#options.registry.putJob({
      id: `job-${randomUUID()}`,
      task,
      kind,
      request,
      blobs,
      state: "queued",
      progress: null,
      result: null,
      error: null,
      checkpoint: null,
      attempts: 0,
      log: [],
      started_at: null,
      ended_at: null,
    });
    this.#waiting.push({ id: job.id, task });
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
    return new JobWriter(this.#options.registry, job).end({ state: "cancelled" });
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
    const { registry, runner, log } = this.#options;
    const writer = new JobWriter(registry, await registry.getJob(id));
    if (writer.job.attempts >= ATTEMPTS) {
      const detail = `The job's process ended ${ATTEMPTS} times before it could save anything, perhaps for lack of memory. See the server's log; fewer max_tokens need less.`;
      await this.#end(writer, { state: "failed", error: new ForewordError("internal", detail).toProblem() });
      return;
    }
    try {
      await writer.start();
      const { signal } = running.abort;
      const result = await runner(writer.job, {
        signal,
        progress: progress => writer.progress(progress),
        log: text => writer.log(text),
        checkpoint: bytes => this.#checkpoint(writer, bytes),
      });
      await this.#end(writer, { state: "succeeded", result });
    } catch (error) {
      if (running.cancelled) await this.#end(writer, { state: "cancelled" });
      else if (this.#closing.signal.aborted) await writer.release();
      else if (error instanceof Interrupted) {
        log.error({ job: id, cause: error.message }, "a job's process ended; it is started again");
        await writer.flush();
        this.#waiting.unshift({ id, task: running.task });
      } else {
        const known = ForewordError.from(error);
        if (known.code === "internal") log.error({ err: error, job: id }, "a job failed");
        await this.#end(writer, { state: "failed", error: known.toProblem() });
      }
    }
  }

  async #checkpoint(writer: JobWriter, bytes: Uint8Array): Promise<void> {
    try {
      await writer.checkpoint(bytes);
    } catch (error) {
      if (!(error instanceof ForewordError && error.code === "registry_unavailable")) throw error;
      this.#options.log.error({ err: error, job: writer.job.id }, "a checkpoint can't be written");
      writer.log(`a checkpoint was not saved; the one before stays. ${error.message}`);
    }
  }

  /** A record that said "running" for ever would be a lie; a queue that closes leaves it to the next one. */
  #end(writer: JobWriter, patch: Parameters<JobWriter["end"]>[0]): Promise<JobRecord> {
    const { id } = writer.job;
    return patiently(() => writer.end(patch), {
      signal: this.#closing.signal,
      within: Number.POSITIVE_INFINITY,
      onFailure: error =>
        this.#options.log.error({ err: error, job: id }, "a job's end can't be written yet"),
    });
  }
}

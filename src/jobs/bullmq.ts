/**
 * The queue on BullMQ, for any number of servers, which submit and cancel, and of workers, which run
 * (bullmq-worker.ts). BullMQ hands out, renews locks and finds stalled jobs; the registry's record is the truth, and what
 * a job's holder may still write (writer.ts). Of each task only the oldest open job is in BullMQ: so one of a task runs
 * at a time, in their order, and a task with many waits no less than one with few. Jobs for different backbones, which
 * different workers run, do not wait for one another. The next one is put in when one ends, and by a round every half
 * minute, should whoever ought to have done it be gone.
 */
import { setTimeout as sleep } from "node:timers/promises";
import { Queue } from "bullmq";
import type { RedisClient } from "../registry/redis-client.ts";
import type { JobRecord, OpenJob, Registry } from "../registry/registry.ts";
import { BullWorker, NAME, type Place, PREFIX, type WorkerOptions } from "./bullmq-worker.ts";
import type { JobRequest, Jobs } from "./jobs.ts";
import { cancelAll, endCancelled, putQueued } from "./queued.ts";

/** How often what should be in the queue is put in. */
const ROUND_MS = 30_000;
/** How long the queue may take to answer: what it missed is put in by the next round. */
const QUEUE_MS = 3000;

export interface BullOptions extends Partial<WorkerOptions> {
  registry: Registry;
  /** A client for a use of its own: `blocking` waits as long as it takes, the other fails in time. */
  connect: (blocking: boolean) => RedisClient;
  log: { error(fields: object, text: string): void };
}

/** Takes up what is open. With a `runner` it is a worker's; without one it submits and cancels only. */
export async function openBullJobs(options: BullOptions): Promise<Jobs> {
  const jobs = new BullJobs(options);
  await jobs.takeUp();
  return jobs;
}

class BullJobs implements Jobs {
  readonly #options: BullOptions;
  readonly #client: RedisClient;
  readonly #queue: Queue<Place>;
  readonly #worker: BullWorker | null;
  readonly #round: NodeJS.Timeout;

  constructor(options: BullOptions) {
    this.#options = options;
    const { connect, runner } = options;
    this.#client = connect(false);
    this.#queue = new Queue(NAME, { connection: this.#client, prefix: PREFIX });
    this.#queue.on("error", error => this.#missed(error));
    this.#worker = runner
      ? new BullWorker({ ...options, runner }, connect(true), {
          next: task => this.#enqueue(task),
          failed: error => this.#missed(error),
        })
      : null;
    this.#round = setInterval(() => void this.#enqueue(), ROUND_MS).unref();
  }

  takeUp(): Promise<void> {
    return this.#enqueue();
  }

  async submit(request: JobRequest): Promise<JobRecord> {
    const { registry } = this.#options;
    const job = await putQueued(registry, request, (await registry.openJobs()).length);
    await this.#enqueue(job.task);
    return job;
  }

  async cancel(id: string): Promise<JobRecord> {
    const { registry } = this.#options;
    for (;;) {
      const job = await registry.getJob(id);
      if (job.ended_at !== null) return job;
      const ended = await endCancelled(registry, job);
      if (ended === null) continue;
      await this.#worker?.stop(id);
      // What runs elsewhere is stopped there, and what follows it is put in when it has stopped.
      if (job.state === "queued") {
        await this.#soon(this.#queue.remove(id));
        await this.#enqueue(job.task);
      }
      return ended;
    }
  }

  cancelTask(task: string): Promise<void> {
    return cancelAll(this.#options.registry, task, id => this.cancel(id));
  }

  async close(): Promise<void> {
    clearInterval(this.#round);
    await this.#worker?.close();
    await this.#soon(this.#queue.close());
    this.#client.disconnect();
  }

  /** Puts in the oldest open job for each backbone of a task, or of every task; those that are in stay as they are. */
  async #enqueue(task?: string): Promise<void> {
    try {
      const open = (await this.#options.registry.openJobs()).filter(
        job => task === undefined || job.task === task,
      );
      await this.#soon(
        this.#queue.addBulk(
          byLine(open).map(jobs => ({
            name: NAME,
            data: { task: jobs[0]!.task },
            // The more a task has open, the longer it waits among others.
            opts: { jobId: jobs[0]!.id, priority: jobs.length, removeOnComplete: true, removeOnFail: true },
          })),
        ),
      );
    } catch (error) {
      this.#missed(error);
    }
  }

  /** What the queue does not do, or not in time, a later round does. */
  async #soon(work: Promise<unknown>): Promise<void> {
    const waited = new AbortController();
    const late = sleep(QUEUE_MS, undefined, { signal: waited.signal });
    await Promise.race([work, late]).catch(error => this.#missed(error));
    waited.abort();
    await late.catch(() => {});
  }

  #missed(error: unknown): void {
    // The message alone: an error of Redis also holds what was sent, even a password.
    this.#options.log.error({ cause: (error as Error).message }, "the queue of jobs can't be reached");
  }
}

/** Those that wait for one another, of a task and for a backbone, in the order in which they came. */
function byLine(open: readonly OpenJob[]): OpenJob[][] {
  const lines = new Map<string, OpenJob[]>();
  for (const job of open) {
    const line = `${job.task} ${job.backbone ?? ""}`;
    lines.set(line, [...(lines.get(line) ?? []), job]);
  }
  return [...lines.values()];
}

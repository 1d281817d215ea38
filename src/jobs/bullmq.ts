/**
 * The queue on BullMQ, for any number of servers, which submit and cancel, and of workers, which run. BullMQ hands out,
 * renews locks and finds stalled jobs; the registry's record is the truth, and what a job's holder may still write
 * (writer.ts). Of each task only the oldest open job is in BullMQ: so one of a task runs at a time, in their order, and
 * a task with many waits no less than one with few. The next one is put in when one ends, and by a round every half
 * minute, should whoever ought to have done it be gone.
 */
import { setTimeout as sleep } from "node:timers/promises";
import { type Job, Queue, WaitingError, Worker } from "bullmq";
import { ForewordError } from "../errors.ts";
import type { RedisClient } from "../registry/redis-client.ts";
import type { JobRecord, Notice, OpenJob, Registry } from "../registry/registry.ts";
import { attemptJob, type Ending, type Running } from "./attempt.ts";
import type { JobRequest, Jobs, Runner } from "./jobs.ts";
import { patiently } from "./patience.ts";
import { cancelled, putQueued } from "./queued.ts";

const NAME = "jobs";
const PREFIX = "{fw-jobs}";

/** A worker that fell silent for so long has lost its job; half a minute later at most another one has it. */
const LOCK_MS = 30_000;
/** How often what should be in the queue is put in. */
const ROUND_MS = 30_000;
/** How long the queue may take to answer: what it missed is put in by the next round. */
const QUEUE_MS = 3000;

export interface BullOptions {
  registry: Registry;
  /** A client for a use of its own: `blocking` waits as long as it takes, the other fails in time. */
  connect: (blocking: boolean) => RedisClient;
  log: { error(fields: object, text: string): void };
  /** Of a worker; without it this queue submits and cancels only. */
  runner?: Runner;
  /** Jobs that run at once; one machine trains one prompt at a time best. */
  concurrency?: number;
  /** For tests of workers that stall. */
  lockMs?: number;
}

/** Takes up what is open. */
export async function openBullJobs(options: BullOptions): Promise<Jobs> {
  const jobs = new BullJobs(options);
  await jobs.takeUp();
  return jobs;
}

interface Place {
  task: string;
}

class BullJobs implements Jobs {
  readonly #options: BullOptions;
  readonly #queue: Queue<Place>;
  readonly #worker: Worker<Place> | null;
  readonly #clients: RedisClient[] = [];
  readonly #running = new Map<string, Running>();
  readonly #closing = new AbortController();
  readonly #unwatch: () => void;
  readonly #round: NodeJS.Timeout;

  constructor(options: BullOptions) {
    this.#options = options;
    const { connect, runner, concurrency = 1, lockMs = LOCK_MS } = options;
    const client = (blocking: boolean) => {
      const made = connect(blocking);
      this.#clients.push(made);
      return { connection: made, prefix: PREFIX };
    };
    this.#queue = new Queue(NAME, client(false));
    this.#worker = runner
      ? new Worker(NAME, (job, token) => this.#work(job, token!, runner), {
          ...client(true),
          concurrency,
          lockDuration: lockMs,
          stalledInterval: lockMs,
          // How often a job may be taken over is for its record to say: it counts starts without a checkpoint.
          maxStalledCount: Number.MAX_SAFE_INTEGER,
        })
      : null;
    this.#queue.on("error", error => this.#missed(error));
    this.#worker?.on("error", error => this.#missed(error));
    this.#unwatch = options.registry.watch(notice => this.#hear(notice));
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
      const ended = await registry
        .updateJob(id, cancelled(), { expected: job.revision })
        .catch(changedMeanwhile);
      if (ended === null) continue;
      const running = this.#running.get(id);
      running?.abort.abort();
      await running?.done;
      // What runs elsewhere is stopped there, and what follows it is put in when it has stopped.
      if (job.state === "queued") {
        await this.#soon(this.#queue.remove(id));
        await this.#enqueue(job.task);
      }
      return ended;
    }
  }

  async cancelTask(task: string): Promise<void> {
    const open = (await this.#options.registry.openJobs()).filter(job => job.task === task);
    // The last ones first, so that none begins because the one before it ends.
    for (const { id } of open.reverse()) await this.cancel(id);
  }

  async close(): Promise<void> {
    this.#closing.abort();
    this.#unwatch();
    clearInterval(this.#round);
    for (const { abort } of this.#running.values()) abort.abort();
    await Promise.all([...this.#running.values()].map(({ done }) => done));
    await this.#soon(Promise.all([this.#worker?.close(), this.#queue.close()]));
    for (const client of this.#clients) client.disconnect();
  }

  /** Puts in the oldest open job of a task, or of every task; those that are in stay as they are. */
  async #enqueue(task?: string): Promise<void> {
    try {
      const open = (await this.#options.registry.openJobs()).filter(
        job => task === undefined || job.task === task,
      );
      await this.#soon(
        this.#queue.addBulk(
          [...byTask(open)].map(([of, jobs]) => ({
            name: NAME,
            data: { task: of },
            // The more a task has open, the longer it waits among others.
            opts: { jobId: jobs[0]!.id, priority: jobs.length, removeOnComplete: true, removeOnFail: true },
          })),
        ),
      );
    } catch (error) {
      this.#missed(error);
    }
  }

  /** One job out of the queue: its task's oldest runs, whatever else is let go, and comes again when it is. */
  async #work(job: Job<Place>, token: string, runner: Runner): Promise<void> {
    const { registry, log } = this.#options;
    const { task } = job.data;
    const id = job.id!;
    const isOldest = async () => (await registry.openJobs()).find(each => each.task === task)?.id === id;
    let released = false;
    try {
      const mine = await patiently(isOldest, {
        signal: this.#closing.signal,
        within: Number.POSITIVE_INFINITY,
        onFailure: error => log.error({ err: error, job: id }, "a job waits for the registry"),
      });
      released = mine && (await this.#run(id, task, runner)) === "released";
    } catch (error) {
      log.error({ err: error, job: id }, "a job's record can't be written");
      released = this.#closing.signal.aborted;
    }
    if (!released) return this.#enqueue(task);
    await job.moveToWait(token);
    throw new WaitingError();
  }

  /** Starts it here as often as its process ends under it. */
  async #run(id: string, task: string, runner: Runner): Promise<Ending> {
    const { registry, log } = this.#options;
    const running: Running = {
      task,
      cancelled: false,
      abort: new AbortController(),
      done: Promise.resolve(),
    };
    const attempts = async () => {
      let ending: Ending;
      do ending = await attemptJob({ registry, runner, log }, id, running, this.#closing.signal);
      while (ending === "interrupted");
      return ending;
    };
    this.#running.set(id, running);
    if (this.#closing.signal.aborted) running.abort.abort();
    const ended = attempts().finally(() => this.#running.delete(id));
    running.done = ended.then(
      () => {},
      () => {},
    );
    return ended;
  }

  /** Stops what runs here and was ended elsewhere. */
  #hear(notice: Notice): void {
    for (const [id, { abort }] of this.#running)
      if (notice.kind === "reload" || (notice.kind === "job" && notice.id === id))
        void this.#options.registry.getJob(id).then(
          ({ ended_at }) => ended_at !== null && abort.abort(),
          () => {},
        );
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
    // Of an error of Redis its words alone: it holds what was sent, a password too.
    this.#options.log.error({ cause: (error as Error).message }, "the queue of jobs can't be reached");
  }
}

/** In the order in which they came. */
function byTask(open: readonly OpenJob[]): Map<string, OpenJob[]> {
  const tasks = new Map<string, OpenJob[]>();
  for (const job of open) tasks.set(job.task, [...(tasks.get(job.task) ?? []), job]);
  return tasks;
}

function changedMeanwhile(error: unknown): null {
  if (error instanceof ForewordError && error.code === "revision_conflict") return null;
  throw error;
}

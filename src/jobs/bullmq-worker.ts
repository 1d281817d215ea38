/** Runs jobs out of BullMQ's queue. */
import { setTimeout as sleep } from "node:timers/promises";
import { DelayedError, type Job, WaitingError, Worker } from "bullmq";
import type { RedisClient } from "../registry/redis-client.ts";
import type { Notice } from "../registry/registry.ts";
import { type AttemptOptions, attemptJob, type Ending, newRun, type Running } from "./attempt.ts";
import { patiently } from "./patience.ts";

export const NAME = "jobs";
export const PREFIX = "{fw-jobs}";

/** A worker that fell silent for so long has lost its job; half a minute later at most another one has it. */
const LOCK_MS = 30_000;
/** How long a job of another backbone is left to other workers before this one is asked again. */
const LEFT_MS = 1000;
/** How long the queue may take to close. */
const CLOSE_MS = 3000;

export interface WorkerOptions extends AttemptOptions {
  /** Jobs that run at once; one machine trains one prompt at a time best. */
  concurrency?: number;
  /** The fingerprint of the one that is loaded; jobs of others are left alone. Undefined: every job is run. */
  backbone?: string;
  /** For tests of workers that stall. */
  lockMs?: number;
}

/** What BullMQ keeps of a job; all else is in its record. */
export interface Place {
  task: string;
}

export interface WorkerHooks {
  /** A job of the task has ended here, or was not to be run. */
  next(task: string): Promise<void>;
  failed(error: Error): void;
}

export class BullWorker {
  readonly #options: WorkerOptions;
  readonly #hooks: WorkerHooks;
  readonly #client: RedisClient;
  readonly #worker: Worker<Place>;
  readonly #running = new Map<string, Running>();
  /** Jobs of other backbones, which the log has told of. */
  readonly #left = new Set<string>();
  readonly #closing = new AbortController();
  readonly #unwatch: () => void;

  /** `client` blocks, and is closed with the worker. */
  constructor(options: WorkerOptions, client: RedisClient, hooks: WorkerHooks) {
    this.#options = options;
    this.#hooks = hooks;
    this.#client = client;
    const { registry, concurrency = 1, lockMs = LOCK_MS } = options;
    this.#worker = new Worker(NAME, (job, token) => this.#work(job, token!), {
      connection: client,
      prefix: PREFIX,
      concurrency,
      lockDuration: lockMs,
      stalledInterval: lockMs,
      // How often a job may be taken over is for its record to say: it counts starts without a checkpoint.
      maxStalledCount: Number.MAX_SAFE_INTEGER,
    });
    this.#worker.on("error", error => hooks.failed(error));
    this.#unwatch = registry.watch(notice => this.#hear(notice));
  }

  /** Resolves when a job that its record has ended no longer runs here. */
  async stop(id: string): Promise<void> {
    const running = this.#running.get(id);
    running?.abort.abort();
    await running?.done;
  }

  /** Gives back what runs. */
  async close(): Promise<void> {
    this.#closing.abort();
    this.#unwatch();
    for (const { abort } of this.#running.values()) abort.abort();
    await Promise.all([...this.#running.values()].map(({ done }) => done));
    const closed = this.#worker.close().catch(error => this.#hooks.failed(error));
    await Promise.race([closed, sleep(CLOSE_MS, undefined, { ref: false })]);
    this.#client.disconnect();
  }

  /** One job out of the queue: its task's oldest for its backbone runs, whatever else is let go, and comes again. */
  async #work(job: Job<Place>, token: string): Promise<void> {
    const { registry, log } = this.#options;
    const { task } = job.data;
    const id = job.id!;
    const look = async () => {
      const open = await registry.openJobs();
      const mine = open.find(each => each.id === id);
      const first = open.find(each => each.task === task && each.backbone === mine?.backbone);
      if (mine === undefined || first !== mine) return "none" as const;
      const { backbone } = this.#options;
      const wanted = (await registry.getJob(id)).backbone;
      const fits = backbone === undefined || wanted === undefined || wanted === backbone;
      return fits ? ("mine" as const) : ("another's" as const);
    };
    let released = false;
    let found: Awaited<ReturnType<typeof look>> = "none";
    try {
      found = await patiently(look, {
        signal: this.#closing.signal,
        within: Number.POSITIVE_INFINITY,
        onFailure: error => log.error({ err: error, job: id }, "a job waits for the registry"),
      });
      released = found === "mine" && (await this.#run(id, task)) === "released";
    } catch (error) {
      log.error({ err: error, job: id }, "a job's record can't be written");
      released = this.#closing.signal.aborted;
    }
    if (found === "another's") {
      this.#tellOfLeft(id, task);
      await job.moveToDelayed(Date.now() + LEFT_MS, token);
      throw new DelayedError();
    }
    if (!released) return this.#hooks.next(task);
    await job.moveToWait(token);
    throw new WaitingError();
  }

  #tellOfLeft(id: string, task: string): void {
    if (this.#left.has(id)) return;
    this.#left.add(id);
    this.#options.log.error(
      { job: id, task },
      "a job is for another backbone; it waits for a worker that has it: start one, or cancel the job",
    );
  }

  /** Starts it here as often as its process ends under it. */
  async #run(id: string, task: string): Promise<Ending> {
    const running = newRun(task);
    const attempts = async () => {
      let ending: Ending;
      do ending = await attemptJob(this.#options, id, running, this.#closing.signal);
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
}

/**
 * Writes one job's record, one write after another; progress at most once a second. A start names its holder in the
 * record: once another start or another's end is there, nothing is written any more.
 */
import { randomUUID } from "node:crypto";
import type { JobProgress } from "../contract/job.ts";
import { ForewordError } from "../errors.ts";
import type { JobPatch, JobRecord, Registry } from "../registry/registry.ts";

const PROGRESS_MS = 1000;
/** Lines that a record keeps. */
const LINES = 200;

export class JobWriter {
  readonly #registry: Registry;
  #job: JobRecord;
  #last: Promise<unknown> = Promise.resolve();
  #waiting: JobPatch = {};
  #lines: string[] = [];
  #timer: NodeJS.Timeout | null = null;
  #endedAt: string | null = null;
  #stopped = false;
  /** The checkpoint before the last: a fail-over that loses the newest record goes back to it. */
  #before: string | null = null;
  readonly #holder = randomUUID();
  readonly #onLost: () => void;

  /** `onLost` is called once the record is another's, or gone. */
  constructor(registry: Registry, job: JobRecord, onLost: () => void) {
    this.#registry = registry;
    this.#job = job;
    this.#onLost = onLost;
  }

  get job(): JobRecord {
    return this.#job;
  }

  start(): Promise<JobRecord> {
    const { started_at, attempts } = this.#job;
    return this.#write({
      state: "running",
      attempts: attempts + 1,
      holder: this.#holder,
      started_at: started_at ?? new Date().toISOString(),
    });
  }

  progress(progress: JobProgress): void {
    this.#waiting = { ...this.#waiting, progress };
    this.#soon();
  }

  log(text: string): void {
    this.#lines.push(text);
    this.#soon();
  }

  async checkpoint(bytes: Uint8Array): Promise<void> {
    const sha256 = await this.#registry.putBlob(bytes);
    // The job, or its process, may have ended while it was written.
    if (this.#endedAt !== null || this.#stopped) return this.#drop(sha256);
    const { checkpoint, blobs } = this.#job;
    const kept = blobs.filter(blob => blob !== checkpoint);
    try {
      await this.#write({ checkpoint: sha256, attempts: 0, blobs: [...kept, sha256] });
    } catch (error) {
      await this.#drop(sha256);
      throw error;
    }
    if (checkpoint === sha256) return;
    await this.#drop(this.#before);
    this.#before = checkpoint;
  }

  /** May be called again where it threw. */
  async end(patch: Pick<JobPatch, "state" | "result" | "error">): Promise<JobRecord> {
    this.#endedAt ??= new Date().toISOString();
    const ended = await this.#write({ ...patch, ended_at: this.#endedAt });
    await this.#dropBoth(ended);
    return ended;
  }

  /** Leaves a job that another server has ended: nothing goes on from its checkpoints. */
  async leave(): Promise<void> {
    await this.#last;
    const job = await this.#registry.getJob(this.#job.id).catch(() => null);
    if (job?.ended_at) await this.#dropBoth(job);
  }

  /** Stopped by the queue's end, not by its own: this start does not count. */
  async release(): Promise<void> {
    const { holder, attempts } = this.#job;
    await this.#write(holder === this.#holder ? { attempts: Math.max(0, attempts - 1) } : {});
  }

  /** Writes what waits, and nothing that is said later: that would take the record from the job's next start. */
  async stop(): Promise<void> {
    const last = this.#timer ? this.#write({}) : this.#last;
    this.#stopped = true;
    await last;
  }

  async #dropBoth({ checkpoint }: JobRecord): Promise<void> {
    for (const each of [this.#before, checkpoint]) await this.#drop(each);
  }

  /** At two checkpoints a minute, what waited for the sweep would fill a Redis. It takes what can't be dropped now. */
  async #drop(checkpoint: string | null): Promise<void> {
    if (checkpoint !== null) await this.#registry.dropBlob(checkpoint).catch(() => false);
  }

  #soon(): void {
    if (this.#endedAt !== null) return;
    this.#timer ??= setTimeout(() => {
      // A record that can't be written is told of when the job ends; a progress line is not worth more.
      this.#write({}).catch(() => {});
    }, PROGRESS_MS);
  }

  /** In turn, together with what was waiting. */
  #write(patch: JobPatch): Promise<JobRecord> {
    if (this.#stopped) return Promise.resolve(this.#job);
    const written = this.#last.then(async () => {
      if (this.#timer) clearTimeout(this.#timer);
      this.#timer = null;
      if (this.#job.ended_at !== null) return this.#job;
      const [waiting, lines] = [this.#waiting, this.#lines];
      this.#waiting = {};
      this.#lines = [];
      try {
        this.#job = await this.#update({ ...waiting, ...patch }, lines);
      } catch (error) {
        // The next write tells what this one could not.
        this.#waiting = { ...waiting, ...this.#waiting };
        this.#lines.unshift(...lines);
        throw error;
      }
      return this.#job;
    });
    this.#last = written.catch(() => {});
    return written;
  }

  async #update(patch: JobPatch, lines: readonly string[]): Promise<JobRecord> {
    const { id, revision, log } = this.#job;
    const at = new Date().toISOString();
    const added = lines.map(text => ({ revision: revision + 1, at, text }));
    const whole = { ...patch, ...(added.length > 0 && { log: [...log, ...added].slice(-LINES) }) };
    try {
      return await this.#registry.updateJob(id, whole, { expected: revision });
    } catch (error) {
      if (error instanceof ForewordError && error.code === "job_not_found") this.#onLost();
      if (!(error instanceof ForewordError && error.code === "revision_conflict")) throw error;
      const now = await this.#registry.getJob(id);
      // A write of ours whose answer was lost is no other's.
      const ours = now.ended_at === null && [this.#job.holder, this.#holder].includes(now.holder);
      if (ours) {
        this.#job = now;
        const told = now.log.filter(line => line.revision > revision);
        return this.#update(patch, lines.slice(told.length));
      }
      this.#onLost();
      throw error;
    }
  }
}

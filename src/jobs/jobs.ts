/**
 * Work that outlives a request. One interface and one contract suite (test/jobs/contract.ts) for every queue; what a job
 * does is its runner's business. The registry's record is the truth: who wants to know of a job reads or watches that.
 *
 * Promises of every queue:
 * - A job that was taken is run, whatever ends the process: a started one goes on from its last checkpoint.
 * - One job of a task runs at a time; the others wait in the order in which they came.
 * - A job is for the task that was there when it was submitted, and for none of the same name that came later.
 * - A job runs on the backbone that it was submitted for, or not at all.
 * - A job ends once, as succeeded, failed or cancelled, and is not touched afterwards.
 * - A job whose process ends several times without a checkpoint between fails, and says so.
 * - A checkpoint that can't be written costs nothing but itself: the job goes on, and the one before stays. How a job
 *   ended is written as soon as the registry takes it.
 * - No job is forgotten because one write failed, and none fails because the registry was away for a moment.
 */
import type { JobKind, JobProgress, JobResult } from "../contract/job.ts";
import type { JobRecord } from "../registry/registry.ts";

export interface JobRequest {
  task: string;
  /** When the task was created: it is for no other of that name. */
  born: string;
  kind: JobKind;
  /** Anything JSON; the runner knows what it means. */
  request: unknown;
  /** The fingerprint of the backbone that it is for: it is not run while another one is loaded. */
  backbone: string;
  /** Blobs that the job needs until it ends. */
  blobs: string[];
  /** The submission's name: one that is sent again gives the job that it gave. */
  commit?: string | undefined;
}

export interface Jobs {
  /** Resolves once the job is kept. Errors: `queue_full`. */
  submit(request: JobRequest): Promise<JobRecord>;
  /**
   * A job that has ended stays as it is. Errors: `job_not_found`; `registry_unavailable` where it can't be written now: the
   * embedded queue stops a running job all the same.
   */
  cancel(id: string): Promise<JobRecord>;
  /** Cancels all that a task still has. */
  cancelTask(task: string): Promise<void>;
  /** Stops what runs, without ending it: it goes on when a queue is opened again. */
  close(): Promise<void>;
}

/** What a runner says of its job, and hears of it. */
export interface JobControl {
  /** Aborted when the job is cancelled or the queue closes: stop soon, and throw. */
  signal: AbortSignal;
  /** The latest is kept, at most one a second. */
  progress(progress: JobProgress): void;
  /** A line for people. */
  log(text: string): void;
  /** Resolves once it is durable and the checkpoint before is let go, or once the job's log says why it is not. */
  checkpoint(bytes: Uint8Array): Promise<void>;
}

/** Thrown by a runner whose process ended under it: the job is started again, from its checkpoint. */
export class Interrupted extends Error {}

export interface Runner {
  (job: JobRecord, control: JobControl): Promise<JobResult>;
  /** Awaited before a job is started: what it waits for, and a process that ends meanwhile, is no start of the job's. */
  ready?(control: JobControl): Promise<void>;
}

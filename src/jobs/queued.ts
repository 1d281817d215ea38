/** A job's record as it is before anyone has run it. */
import { randomUUID } from "node:crypto";
import { ForewordError, orElse } from "../errors.ts";
import type { JobRecord, NewJob, Registry } from "../registry/registry.ts";
import type { JobRequest } from "./jobs.ts";

/** Jobs that have not ended, at most. */
const LIMIT = 1000;

/** `open` is how many there are. Throws `queue_full`. */
export async function putQueued(
  registry: Registry,
  { task, born, kind, request, backbone, blobs, commit }: JobRequest,
  open: number,
): Promise<JobRecord> {
  if (open >= LIMIT)
    throw new ForewordError(
      "queue_full",
      `${LIMIT} jobs are waiting. Try again when some have ended, or cancel some.`,
    );
  const job: NewJob = {
    id: `job-${randomUUID()}`,
    task,
    born,
    kind,
    request,
    backbone,
    blobs,
    state: "queued",
    progress: null,
    result: null,
    error: null,
    checkpoint: null,
    attempts: 0,
    holder: null,
    log: [],
    started_at: null,
    ended_at: null,
  };
  return registry.putJob(job, { commit });
}

/** How a job ends that did not run, or runs elsewhere. */
export const cancelled = () => ({ state: "cancelled" as const, ended_at: new Date().toISOString() });

/** Ends a job that does not run here; null, and nothing is written, where its record has changed since it was read. */
export async function endCancelled(
  registry: Registry,
  { id, revision, checkpoint }: Pick<JobRecord, "id" | "revision" | "checkpoint">,
): Promise<JobRecord | null> {
  const ended = await registry
    .updateJob(id, cancelled(), { expected: revision })
    .catch(orElse(null, "revision_conflict"));
  // What can't be dropped now is swept.
  if (ended && checkpoint !== null) await registry.dropBlob(checkpoint).catch(() => false);
  return ended;
}

/**
 * What a task still has: the last ones first, so that none begins because the one before it ends. Each is tried, whatever
 * became of another: their task is gone, and nobody asks a second time. Throws what the first one threw.
 */
export async function cancelAll(
  registry: Registry,
  task: string,
  cancel: (id: string) => Promise<unknown>,
): Promise<void> {
  const open = (await registry.openJobs()).filter(job => job.task === task);
  const failures: unknown[] = [];
  for (const { id } of open.reverse()) await cancel(id).catch(error => failures.push(error));
  if (failures.length > 0) throw failures[0];
}

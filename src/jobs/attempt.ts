/** One start of a job, from its record to its end; the same for every queue. */
import { ForewordError } from "../errors.ts";
import type { Registry } from "../registry/registry.ts";
import { Interrupted, type JobControl, type Runner } from "./jobs.ts";
import { isAway, patiently } from "./patience.ts";
import { JobWriter } from "./writer.ts";

/** Starts without a checkpoint between, after which a job has failed. */
const ATTEMPTS = 3;

export interface AttemptOptions {
  registry: Registry;
  runner: Runner;
  /** Told of what no caller is told in full. */
  log: { error(fields: object, text: string): void };
}

/** A job that runs in this process. */
export interface Running {
  task: string;
  /** By its queue, which wants its record to say so. */
  cancelled: boolean;
  abort: AbortController;
  done: Promise<void>;
}

export const newRun = (task: string): Running => ({
  task,
  cancelled: false,
  abort: new AbortController(),
  done: Promise.resolve(),
});

/**
 * `ended`: its record says how. `released`: the queue closes, and the next one goes on. `interrupted`: its process ended,
 * and it is to be started again. `lost`: its record is another's now, or was ended by another.
 */
export type Ending = "ended" | "released" | "interrupted" | "lost";

/** `closing` is aborted when the queue closes. */
export async function attemptJob(
  { registry, runner, log }: AttemptOptions,
  id: string,
  running: Pick<Running, "cancelled" | "abort">,
  closing: AbortSignal,
): Promise<Ending> {
  const patient = <Result>(call: () => Promise<Result>, what: string) =>
    patiently(call, {
      signal: closing,
      within: Number.POSITIVE_INFINITY,
      onFailure: error => log.error({ err: error, job: id }, what),
    });
  const job = await patient(() => registry.getJob(id), "a job can't be read yet");
  let isLost = false;
  const writer = new JobWriter(registry, job, () => {
    isLost = true;
    running.abort.abort();
  });
  const leave = async (): Promise<Ending> => {
    await writer.leave();
    return "lost";
  };
  // A record that said "running" for ever would be a lie; a queue that closes leaves it to the next one.
  const end = async (patch: Parameters<JobWriter["end"]>[0]): Promise<Ending> => {
    try {
      await patient(() => writer.end(patch), "a job's end can't be written yet");
      return "ended";
    } catch (error) {
      if (isLost) return leave();
      throw error;
    }
  };
  if (writer.job.ended_at !== null) return "lost";
  if (writer.job.attempts >= ATTEMPTS) {
    const detail = `The job's process ended ${ATTEMPTS} times before it could save anything, perhaps for lack of memory. See the server's log; fewer max_tokens need less.`;
    return end({ state: "failed", error: new ForewordError("internal", detail).toProblem() });
  }
  const { signal } = running.abort;
  const control: JobControl = {
    signal,
    progress: progress => writer.progress(progress),
    log: text => writer.log(text),
    checkpoint: bytes => saveCheckpoint(writer, bytes, log),
  };
  try {
    await runner.ready?.(control);
    await patient(() => writer.start(), "a job's start can't be written yet");
    signal.throwIfAborted();
    const result = await runner(writer.job, control);
    return await end({ state: "succeeded", result });
  } catch (error) {
    if (running.cancelled) return end({ state: "cancelled" });
    if (signal.aborted && !closing.aborted) return leave();
    if (closing.aborted) {
      await writer.release();
      return "released";
    }
    if (error instanceof Interrupted) {
      log.error({ job: id, cause: error.message }, "a job's process ended; it is started again");
      await writer.stop().catch(failure => {
        // What it said last is worth less than its next start, which waits for the registry.
        if (!isAway(failure)) throw failure;
        log.error({ err: failure, job: id }, "a job's last lines can't be written");
      });
      return "interrupted";
    }
    const known = ForewordError.from(error);
    if (known.code === "internal") log.error({ err: error, job: id }, "a job failed");
    return end({ state: "failed", error: known.toProblem() });
  }
}

async function saveCheckpoint(
  writer: JobWriter,
  bytes: Uint8Array,
  log: AttemptOptions["log"],
): Promise<void> {
  try {
    await writer.checkpoint(bytes);
  } catch (error) {
    if (!isAway(error)) throw error;
    log.error({ err: error, job: writer.job.id }, "a checkpoint can't be written");
    writer.log(`a checkpoint was not saved; the one before stays. ${error.message}`);
  }
}

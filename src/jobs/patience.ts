/** Calls that wait for a registry, or an engine, which can't answer now: a full disk is emptied, a connection comes back. */
import { setTimeout as sleep } from "node:timers/promises";
import { ForewordError, type ProblemCode } from "../errors.ts";
import type { JobControl } from "./jobs.ts";

const FIRST_MS = 500;
const LONGEST_MS = 10_000;
/** How long a job's own calls wait: a registry comes back in that time, and what is lost for good is told of. */
const RUNNER_MS = 600_000;

export interface Patience {
  /** Gives up waiting, and throws what the last try threw. */
  signal: AbortSignal;
  /** Milliseconds that the waits may take together. */
  within: number;
  /** Told of every try that failed. */
  onFailure: (error: ForewordError) => void;
  /** What may be otherwise later; that the registry is away, when left out. */
  passes?: (error: unknown) => error is ForewordError;
}

/** A data folder that another process took over does not come back. */
const isOne =
  (...codes: ProblemCode[]) =>
  (error: unknown): error is ForewordError =>
    error instanceof ForewordError && codes.includes(error.code) && error.fields.taken_over === undefined;

/** Whether the registry may do later what it can't do now. */
export const isAway = isOne("registry_unavailable");
/** Whether that goes for the engine too, whose thread is started again if it ended. */
export const areAway = isOne("registry_unavailable", "not_ready", "backbone_unavailable");

/** Tries again, ever less often, while `call` throws what `passes`; every other error is thrown at once. */
export async function patiently<Result>(
  call: () => Promise<Result>,
  { signal, within, onFailure, passes = isAway }: Patience,
): Promise<Result> {
  const end = Date.now() + within;
  for (let wait = FIRST_MS; ; wait = Math.min(2 * wait, LONGEST_MS)) {
    try {
      return await call();
    } catch (error) {
      if (!passes(error) || signal.aborted || Date.now() + wait > end) throw error;
      onFailure(error);
      await sleep(wait, undefined, { signal }).catch(() => {});
    }
  }
}

/** The job that waits; cancelling it ends the wait. */
export interface Waiting {
  options: { log: { error(fields: object, text: string): void } };
  record: { id: string };
  control: Pick<JobControl, "signal" | "log">;
}

/** What a job found, as soon as the registry takes it; whoever follows the job hears why it waits. */
export const written = <Result>(
  { options, record: { id }, control: { signal, log } }: Waiting,
  write: () => Promise<Result>,
  { waits, told }: { waits: string; told: string },
): Promise<Result> =>
  patiently(write, {
    signal,
    within: RUNNER_MS,
    passes: areAway,
    onFailure: error => {
      options.log.error({ err: error, job: id }, waits);
      log(`${told} ${error.message}`);
    },
  });

/** What a job needs, as soon as the registry gives it. */
export const fetched = <Result>(work: Waiting, read: () => Promise<Result>): Promise<Result> =>
  written(work, read, {
    waits: "what a job needs can't be read yet",
    told: "what the job needs can't be read yet.",
  });

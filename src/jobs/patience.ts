/** Writes that wait for a registry which can't take them now: a full disk is emptied, a connection comes back. */
import { setTimeout as sleep } from "node:timers/promises";
import { ForewordError } from "../errors.ts";

const FIRST_MS = 500;
const LONGEST_MS = 10_000;

export interface Patience {
  /** Gives up waiting, and throws what the last try threw. */
  signal: AbortSignal;
  /** Milliseconds that the waits may take together. */
  within: number;
  /** Told of every try that failed. */
  onFailure: (error: ForewordError) => void;
}

/** Tries again, ever less often, while `write` throws `registry_unavailable`; every other error is thrown at once. */
export async function patiently<Result>(
  write: () => Promise<Result>,
  { signal, within, onFailure }: Patience,
): Promise<Result> {
  const end = Date.now() + within;
  for (let wait = FIRST_MS; ; wait = Math.min(2 * wait, LONGEST_MS)) {
    try {
      return await write();
    } catch (error) {
      const known = error instanceof ForewordError && error.code === "registry_unavailable";
      if (!known || signal.aborted || Date.now() + wait > end) throw error;
      onFailure(error);
      await sleep(wait, undefined, { signal }).catch(() => {});
    }
  }
}

/** Work that others decide on: a caller waits for it as long as its own time lasts. */
import type { Wanted } from "./prefix-cache.ts";
import { abandoned, type SubmitOptions } from "./scheduler.ts";

type Patience = Pick<SubmitOptions, "deadline" | "cancelled">;

/** How often it is looked whether a caller still waits, while others decide when what it waits for is there. */
const LOOK_MS = 20;

export const waits =
  ({ deadline, cancelled }: Patience): Wanted =>
  () =>
    Date.now() < deadline && !cancelled();

/** What `work` gives, unless the caller has gone or its time is over: then `late` is given what comes, and nobody waits for it. */
export async function inTime<Value>(
  work: Promise<Value>,
  options: Patience,
  late: (value: Value) => void,
): Promise<Value> {
  const wanted = waits(options);
  let looking: NodeJS.Timeout | undefined;
  const over = new Promise<never>((_, reject) => {
    looking = setInterval(() => wanted() || reject(abandoned(options)), LOOK_MS);
  });
  try {
    return await Promise.race([work, over]);
  } catch (error) {
    work.then(late, () => {});
    // Work that ended because nobody waited says so of all who did.
    throw wanted() ? error : abandoned(options);
  } finally {
    clearInterval(looking);
  }
}

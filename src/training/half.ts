/** Whether a trained prompt may be kept as F16: half the bytes, and the same prompt as far as the looks can tell. */
import type { Task } from "../contract/task.ts";
import { type Judged, scores } from "./evaluation/metrics.ts";

/** What the mean loss of texts may rise by, in nats a token. */
const RISE = 0.01;

/**
 * Why not, or null. Of labels no answer may change. Nothing is written on the way, so that of texts there are no answers
 * to compare: how probable the wanted ones are is all that is known.
 */
export function lostAsHalf(
  { type }: Pick<Task, "type">,
  exact: readonly Judged[],
  half: readonly Judged[],
): string | null {
  if (type === "generation") {
    const rise = scores.loss(exact) - scores.loss(half);
    return rise <= RISE ? null : `as F16 its loss would be ${rise.toFixed(4)} higher`;
  }
  const changed = exact.filter(({ given }, at) => given !== half[at]!.given).length;
  return changed === 0 ? null : `as F16 it would answer ${changed} of ${exact.length} otherwise`;
}

/** Which of the parameters that looks at validation judged a run ends with. */
import type { Look } from "./progress.ts";

/**
 * The latest whose score is within a look's standard error of the best one: a few examples can't tell them apart, and
 * later ones are better more often than not. Not those, though, that have a lower score and a higher loss than what is
 * kept: by then a run learns its examples by heart, and the loss tells that more surely than the score.
 */
export function replaces(
  latest: Look,
  { kept, best, standardError }: { kept: Look | null; best: number; standardError: number },
): boolean {
  if (latest.validation < best - standardError) return false;
  const lower = kept !== null && latest.validation < kept.validation;
  // Where the score is the loss, it is one witness, not two.
  return !(lower && latest.loss > kept.loss && latest.validation !== -latest.loss);
}

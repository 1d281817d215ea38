/** Whether the examples that validate a run may be some that another prompt of its comparison was trained on. */
import { readPromptFile } from "../prompt/file.ts";
import type { TrainJob } from "./job.ts";

export const SEEN =
  "validation: what is active, or what this starts from, was trained with another seed, which chose other examples to validate; it may have been trained on some that validate here, which flatters it. The same seed, or validation examples of their own, are fair";

/** One share of the same examples and one seed always choose alike (split.ts); other seeds do not. */
export function seenElsewhere({ active, initial, validation, splitSeed }: TrainJob): boolean {
  if (typeof validation !== "number") return false;
  return [...(active?.prompts ?? []), ...(initial ? [initial] : [])].some(({ parameters }) => {
    const recipe = parameters && (readPromptFile(parameters).recipe as { split_seed?: unknown } | null);
    return typeof recipe?.split_seed === "number" && recipe.split_seed !== splitSeed;
  });
}

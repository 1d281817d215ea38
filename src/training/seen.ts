/** Whether the examples that validate a run may be some that another prompt of its comparison was trained on. */
import { readPromptFile } from "../prompt/file.ts";
import type { TrainJob } from "./job.ts";
import { SPLIT } from "./split.ts";

export const SEEN =
  "validation: what is active, or what this starts from, had other examples validate when it was trained (another seed, a smaller share, an earlier release); where it was trained on these examples, some that validate here flatter it. The same seed and share, or validation examples of their own, are fair";

/** How a run chose what validates, for its recipe; the seed stands beside it. A share of null is examples of their own. */
export const splitOf = ({ validation }: Pick<TrainJob, "validation">) => ({
  version: SPLIT,
  share: typeof validation === "number" ? validation : null,
});

/** One seed chooses the same for a share, and the same among more for a larger one (split.ts). */
export function seenElsewhere({ active, initial, validation, splitSeed }: TrainJob): boolean {
  if (typeof validation !== "number") return false;
  return [...(active?.prompts ?? []), ...(initial ? [initial] : [])].some(({ parameters }) => {
    const recipe = parameters && (readPromptFile(parameters).recipe as Partial<Recipe> | null);
    if (typeof recipe?.split_seed !== "number") return false;
    const { split_seed, split } = recipe;
    return split_seed !== splitSeed || split?.version !== SPLIT || validation > (split.share ?? 0);
  });
}

interface Recipe {
  split_seed: number;
  split: ReturnType<typeof splitOf>;
}

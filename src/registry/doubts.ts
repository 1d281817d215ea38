import type { Active } from "../contract/task.ts";

/**
 * An active record that takes the place of another: when an answer is no answer is the task's to say, whatever prompt
 * gives it. Fitted numbers are those of a prompt, and stay with it.
 */
export function withDoubts(active: Active, before: Active | null): Active {
  const { unsure_below, agreement_below } = before ?? {};
  return {
    ...active,
    ...(unsure_below !== undefined && { unsure_below }),
    ...(active.ensemble && agreement_below !== undefined && { agreement_below }),
  };
}

/** Which prompts answer a request: the active record, or what the request names. */
import { createHash } from "node:crypto";
import type { InferRequest } from "../contract/infer.ts";
import type { Active, Task } from "../contract/task.ts";
import { ForewordError } from "../errors.ts";

export interface Route {
  versions: readonly number[];
  /** Null where one prompt answers alone. */
  vote: "mean" | "majority" | "weighted" | null;
  weights: readonly number[];
  /** Fitted numbers of the active record; a request that names its prompt gets the plain scores. */
  fitted: Pick<Active, "temperature" | "bias" | "unsure_below" | "agreement_below">;
  shadow: number | null;
}

const plain = { vote: null, weights: [], fitted: {}, shadow: null } as const;

/** Throws `no_active_prompt`. */
export function route(task: Task, request: InferRequest): Route {
  if (typeof request.prompt === "number") return { ...plain, versions: [request.prompt] };
  if (request.prompt) return { ...plain, ...ensemble(request.prompt) };
  const { active } = task;
  if (!active)
    throw new ForewordError(
      "no_active_prompt",
      `Task ${task.id} has no active prompt. Activate one with PUT /tasks/${task.id}/active, or name one in the request.`,
    );
  const { temperature, bias, unsure_below, agreement_below } = active;
  const fitted = {
    ...(temperature !== undefined && { temperature }),
    ...(bias && { bias }),
    ...(unsure_below !== undefined && { unsure_below }),
    ...(agreement_below !== undefined && { agreement_below }),
  };
  const shadow = active.shadow && Math.random() < active.shadow.share ? active.shadow.prompt : null;
  if (active.ensemble) return { ...ensemble({ ...active, ensemble: active.ensemble }), fitted, shadow };
  const version = active.prompt ?? pick(active.split!, request.route_key);
  return { ...plain, versions: [version], fitted, shadow };
}

function ensemble({
  ensemble: versions,
  vote = "mean",
  weights,
}: Pick<Active, "vote" | "weights"> & { ensemble: readonly number[] }) {
  if (vote === "weighted" && (weights?.length !== versions.length || weights.every(weight => weight === 0))) {
    throw new ForewordError(
      "validation",
      "weights: a weighted vote needs one weight a member, at least one of them above 0.",
      { field: "prompt.weights" },
    );
  }
  return { versions, vote, weights: vote === "weighted" ? weights! : versions.map(() => 1) };
}

/** A share of the traffic for each part; the same `route_key` always comes to the same part. */
function pick(split: NonNullable<Active["split"]>, key: string | undefined): number {
  const total = split.reduce((sum, part) => sum + part.weight, 0);
  const fraction =
    key === undefined ? Math.random() : createHash("sha256").update(key).digest().readUInt32BE(0) / 2 ** 32;
  let at = fraction * total;
  for (const part of split) {
    at -= part.weight;
    if (at < 0) return part.prompt;
  }
  return split.at(-1)!.prompt;
}

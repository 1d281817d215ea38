/** Which prompts answer a request: the active record, or what the request names. */
import { createHash } from "node:crypto";
import type { InferRequest } from "../contract/infer.ts";
import type { Active, Task } from "../contract/task.ts";
import { ForewordError, invalid } from "../errors.ts";

export interface Route {
  versions: readonly number[];
  /** Null where one prompt answers alone. */
  vote: "mean" | "majority" | "weighted" | null;
  weights: readonly number[];
  /** Fitted numbers of the active record; a request that names its prompt gets the plain scores. */
  fitted: Pick<Active, "temperature" | "bias" | "unsure_below" | "agreement_below">;
}

/** The versions that may answer. */
export function answering({ prompt, ensemble, split }: Active): number[] {
  if (prompt !== undefined) return [prompt];
  return ensemble ?? split!.map(part => part.prompt);
}

const plain = { vote: null, weights: [], fitted: {} } as const;

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
  if (active.ensemble) return { ...ensemble({ ...active, ensemble: active.ensemble }), fitted };
  const version = active.prompt ?? pick(task.id, active.split!, request.route_key);
  return { ...plain, versions: [version], fitted };
}

type Ensemble = Pick<Active, "vote" | "weights"> & { ensemble: readonly number[] };

/** Throws `validation` for what can't vote; `where` stands before the names of its fields. */
export function checkVote({ ensemble, vote, weights }: Ensemble, where = ""): void {
  const refuse = (field: string, why: string): never => {
    throw invalid(`${where}${field}`, why);
  };
  const twice = ensemble.find((version, at) => ensemble.indexOf(version) < at);
  if (twice !== undefined)
    refuse("ensemble", `version ${twice} is named twice. Name it once, with a larger weight.`);
  if (weights && vote !== "weighted")
    refuse("weights", 'only the vote "weighted" has weights. Leave them out, or choose it.');
  if (vote === "weighted" && weights?.length !== ensemble.length)
    refuse("weights", "a weighted vote needs one weight a member.");
  if (weights?.every(weight => weight === 0)) refuse("weights", "at least one must be above 0.");
}

const ensemble = ({ ensemble: versions, vote = "mean", weights }: Ensemble) => ({
  versions,
  vote,
  weights: vote === "weighted" ? weights! : versions.map(() => 1),
});

/**
 * The version that answers: at random by weight, or, with a key, the one that the key comes to on every replica. Weighted
 * rendezvous (Schindelhauer & Schomaker 2005): each version draws -ln(h) / weight from a hash h in (0, 1) of task,
 * version and key, and the least wins. A version that gains weight takes keys from the others alone, one that loses
 * weight gives its own away; all other keys stay where they are.
 */
export function pick(task: string, split: NonNullable<Active["split"]>, key: string | undefined): number {
  const taking = split.filter(({ weight }) => weight > 0);
  const draws = taking.map(({ prompt, weight }) => ({
    prompt,
    draw: -Math.log(key === undefined ? 1 - Math.random() : hash([task, prompt, key])) / weight,
  }));
  return draws.reduce((least, each) => (each.draw < least.draw ? each : least)).prompt;
}

/** A number in (0, 1), the same on every machine. */
function hash(parts: readonly unknown[]): number {
  const bytes = createHash("sha256").update(JSON.stringify(parts)).digest();
  return (bytes.readUIntBE(0, 6) + 0.5) / 2 ** 48;
}

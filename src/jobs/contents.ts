/** Prompts out of the registry, as the engine and a trainer take them. */
import type { PromptRef } from "../contract/common.ts";
import type { PromptRecord } from "../contract/prompt.ts";
import type { Active } from "../contract/task.ts";
import type { Engine } from "../engine/engine.ts";
import type { Registry } from "../registry/registry.ts";
import type { TaskPrompt } from "../training/job.ts";

/** A version as a job keeps it, whatever becomes of that version; the job names the blob of its parameters. */
export type KeptPrompt = Pick<PromptRecord, "task" | "version" | "kind" | "template" | "parameters"> &
  Pick<TaskPrompt, "verbalizers">;

/** Each version once. Throws `task_not_found`, `prompt_not_found`. */
export async function keep(registry: Registry, refs: readonly PromptRef[]): Promise<KeptPrompt[]> {
  const kept: KeptPrompt[] = [];
  for (const ref of refs) {
    if (kept.some(each => isSame(each, ref))) continue;
    const { task, version, kind, template, parameters, verbalizers } = await registry.getPrompt(
      ref.task,
      ref.version,
    );
    kept.push({ task, version, kind, template, parameters, ...(verbalizers && { verbalizers }) });
  }
  return kept;
}

/** Out of what a job keeps, or else as it is now: jobs of earlier versions keep none. */
export const keptOr = async (
  registry: Registry,
  kept: readonly KeptPrompt[],
  ref: PromptRef,
): Promise<KeptPrompt> => kept.find(each => isSame(each, ref)) ?? registry.getPrompt(ref.task, ref.version);

const isSame = (a: PromptRef, b: PromptRef): boolean => a.task === b.task && a.version === b.version;

export const contentOf = async (registry: Registry, task: string, version: number): Promise<TaskPrompt> =>
  withParameters(registry, await registry.getPrompt(task, version));

export async function withParameters(
  registry: Registry,
  { template, verbalizers, parameters }: Pick<KeptPrompt, "template" | "verbalizers" | "parameters">,
): Promise<TaskPrompt> {
  return {
    template,
    parameters: parameters === null ? null : await registry.getBlob(parameters),
    ...(verbalizers && { verbalizers }),
  };
}

/** Words recompile on any backbone; what was trained belongs to its own. */
export const fits = ({ bytes, backbone }: PromptRecord, fingerprint: string): boolean =>
  bytes === 0 || backbone.fingerprint === fingerprint;

/** A prompt's template as it was before training took the words before its first field. */
export function untrainedTemplate({ template, recipe }: Pick<PromptRecord, "template" | "recipe">): string {
  const before = (recipe as { template?: unknown } | null)?.template;
  return typeof before === "string" ? before : template;
}

/** The versions that answer: of a split, the part that most requests come to. */
export function mainVersions({ prompt, ensemble, split }: Active): number[] {
  if (ensemble) return ensemble;
  if (prompt !== undefined) return [prompt];
  return [split!.reduce((most, part) => (part.weight > most.weight ? part : most)).prompt];
}

/** What serves is what is measured. */
export const servedPrecision = (engine: Engine): "int8" | "fp32" =>
  engine.backbone().precision.active === "int8" ? "int8" : "fp32";

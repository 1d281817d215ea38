/** Prompts out of the registry, as the engine and a trainer take them. */
import type { PromptRecord } from "../contract/prompt.ts";
import type { Active } from "../contract/task.ts";
import type { Engine } from "../engine/engine.ts";
import type { Registry } from "../registry/registry.ts";
import type { TaskPrompt } from "../training/job.ts";

export async function contentOf(registry: Registry, task: string, version: number): Promise<TaskPrompt> {
  const { template, verbalizers, parameters } = await registry.getPrompt(task, version);
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
export function versionsOf({ prompt, ensemble, split }: Active): number[] {
  if (ensemble) return ensemble;
  if (prompt !== undefined) return [prompt];
  return [split!.reduce((most, part) => (part.weight > most.weight ? part : most)).prompt];
}

/** What serves is what is measured. */
export const servedPrecision = (engine: Engine): "int8" | "fp32" =>
  engine.backbone().precision.active === "int8" ? "int8" : "fp32";

/** What a new prompt stands on. */
import type { PromptRef } from "../contract/common.ts";
import type { Engine } from "../engine/engine.ts";
import { invalid } from "../errors.ts";
import { contentOf } from "../jobs/contents.ts";
import { MOST_BASES } from "../prompt/file.ts";
import { basesOf, layersOf, PLATFORM, platform } from "../prompt/stack.ts";
import type { Registry } from "../registry/registry.ts";
import { checkCompatible } from "./views.ts";

export interface Base {
  /** The version that was named; it may be gone since. */
  on: PromptRef | null;
  /** As `platform` writes it. */
  file: Uint8Array;
}

/**
 * What `on` names, with all that it stands on itself. Throws `prompt_not_found`, `backbone_mismatch`, `validation` (it
 * adds nothing, or stands on too many), `input_too_long`.
 */
export async function baseOn(registry: Registry, engine: Engine, on: PromptRef): Promise<Base> {
  checkCompatible(await registry.getPrompt(on.task, on.version), engine);
  const layers = layersOf(await contentOf(registry, on.task, on.version));
  if (layers.length > MOST_BASES)
    throw invalid(
      "on",
      `the prompt stands on ${layers.length - 1} others; at most ${MOST_BASES - 1} may be below one that is stacked on.`,
    );
  const file = platform(layers, engine.backbone().fingerprint);
  if ((await lengthOf(engine, file)) === 0)
    throw invalid(
      "on",
      "the prompt has nothing before its first field, so it adds nothing. Name another one.",
    );
  return { on, file };
}

/** What a version stands on, for one that is to stand on the same. */
export async function baseUnder(
  registry: Registry,
  engine: Engine,
  version: PromptRef,
): Promise<Base | null> {
  const { on = null } = await registry.getPrompt(version.task, version.version);
  const bases = basesOf(await contentOf(registry, version.task, version.version));
  return bases.length === 0 ? null : { on, file: platform(bases, engine.backbone().fingerprint) };
}

/** Positions of a base. */
export const lengthOf = async (engine: Engine, file: Uint8Array): Promise<number> =>
  (await engine.inspect({ template: PLATFORM, parameters: file })).length;

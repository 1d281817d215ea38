/** The trained tensors as they begin: a text's keys and values or embeddings, another prompt's, or chance. */
import { moveKeys } from "../backbone/architectures/rotary.ts";
import { embeddingOf } from "../backbone/names.ts";
import type { BackboneConfig } from "../backbone/source.ts";
import type { PromptContent } from "../engine/engine.ts";
import type { KvBlock } from "../engine/kv.ts";
import type { OpenedCore } from "../engine/open.ts";
import { invalid } from "../errors.ts";
import { readPromptFile } from "../prompt/file.ts";
import { unstacked } from "../prompt/stack.ts";
import type { Parameter } from "./batches.ts";
import type { Plan } from "./plan.ts";
import type { Shelf } from "./shelf.ts";
import { prefixFrom, randomLike, softFrom } from "./start.ts";

/** The engine, with the shelf that it takes prompts from. */
export interface Bench extends OpenedCore {
  shelf: Shelf;
}

/** Throws `validation` where `initial` has another length than the template's slots, or no virtual tokens for them. */
export async function begin(
  bench: Bench,
  plan: Plan,
  initial: PromptContent | null,
  seed: number,
  base: KvBlock | null = null,
): Promise<Parameter[]> {
  const parameters =
    plan.method === "prefix" ? await prefix(bench, plan, initial, base) : await soft(bench, plan, initial);
  return plan.init === "random" ? randomLike(parameters, seed) : parameters;
}

async function prefix(
  { core, source, compiled }: Bench,
  plan: Plan,
  initial: PromptContent | null,
  base: KvBlock | null,
): Promise<Parameter[]> {
  if (initial === null)
    return prefixFrom(await core.read(plan.ids, base), source.config, compiled.valueScales);
  // A new base takes the place of what the other prompt stands on.
  const block = await core.prefix(base ? unstacked(initial) : initial);
  return prefixFrom(movedBlock(block, base?.length ?? 0, source.config), source.config, compiled.valueScales);
}

const movedBlock = (block: KvBlock, by: number, config: BackboneConfig): KvBlock => ({
  ...block,
  key: block.key.map(data => moveKeys(data, by, config)),
});

async function soft({ source }: Bench, { ids }: Plan, initial: PromptContent | null): Promise<Parameter[]> {
  const hidden = source.config.hiddenSize;
  const file = initial?.parameters ? readPromptFile(initial.parameters) : null;
  const stored = file?.soft;
  if (file?.prefix && !stored)
    throw invalid(
      "init",
      "the prompt is a prefix, keys and values of every layer, from which no virtual tokens can start. Name a soft prompt.",
    );
  if (!stored) return softFrom(ids, await source.read(embeddingOf(source.config)), hidden);
  if (stored.dims[0] === ids.length) return [{ input: "virtual", ...stored, data: stored.data.slice() }];
  throw invalid(
    "init",
    `the prompt has ${stored.dims[0]} virtual tokens, the template ${ids.length}. Give them the same length.`,
  );
}

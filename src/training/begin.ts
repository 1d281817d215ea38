/** The trained tensors as they begin: a text's keys and values or embeddings, another prompt's, or chance. */
import { embeddingOf } from "../compile/smooth.ts";
import type { PromptContent } from "../engine/engine.ts";
import type { OpenedCore } from "../engine/open.ts";
import { ForewordError } from "../errors.ts";
import { readPromptFile } from "../prompt/file.ts";
import type { Parameter } from "./batches.ts";
import type { Shelf } from "./evaluation/judge.ts";
import type { Plan } from "./plan.ts";
import { prefixFrom, randomLike, softFrom } from "./start.ts";

/** The engine, with the shelf that it takes prompts from. */
export interface Bench extends OpenedCore {
  shelf: Shelf;
}

/** Throws `validation` where `initial` has another length than the template's slots. */
export async function begin(
  bench: Bench,
  plan: Plan,
  initial: PromptContent | null,
  seed: number,
): Promise<Parameter[]> {
  const parameters =
    plan.method === "prefix" ? await prefix(bench, plan, initial) : await soft(bench, plan, initial);
  return plan.init === "random" ? randomLike(parameters, seed) : parameters;
}

async function prefix(
  { core, source, compiled }: Bench,
  plan: Plan,
  initial: PromptContent | null,
): Promise<Parameter[]> {
  const block = initial ? await core.prefix(initial) : await core.read(plan.ids);
  return prefixFrom(block, source.config, compiled.valueScales);
}

async function soft({ source }: Bench, { ids }: Plan, initial: PromptContent | null): Promise<Parameter[]> {
  const hidden = source.config.hiddenSize;
  const stored = initial?.parameters ? readPromptFile(initial.parameters).soft : undefined;
  if (!stored) return softFrom(ids, await source.read(embeddingOf(source.config)), hidden);
  if (stored.dims[0] === ids.length) return [{ input: "virtual", ...stored, data: stored.data.slice() }];
  throw new ForewordError(
    "validation",
    `init: the prompt has ${stored.dims[0]} virtual tokens, the template ${ids.length}. Give them the same length.`,
    { field: "init" },
  );
}

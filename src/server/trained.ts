/** Trained prompts of many tasks, which are compared, or given to a new one to start from. */
import type { PromptRef } from "../contract/common.ts";
import type { Dataset } from "../contract/dataset.ts";
import type { PromptRecord } from "../contract/prompt.ts";
import type { Task } from "../contract/task.ts";
import type { TrainMethod } from "../contract/train.ts";
import { MOST_DONORS, type TrainedKind } from "../contract/transfer.ts";
import type { Engine } from "../engine/engine.ts";
import { ForewordError } from "../errors.ts";
import { mainVersions } from "../jobs/contents.ts";
import { itemsOf } from "../registry/page.ts";
import type { Page, PageRequest, Registry } from "../registry/registry.ts";
import { compatible } from "./views.ts";

export const hasKind = ({ kind }: PromptRecord, wanted: TrainedKind): boolean =>
  kind === wanted || kind === "mixed";

/** The task's prompts, oldest first. */
export const promptsOf = (registry: Registry, task: string): Promise<PromptRecord[]> =>
  every(page => registry.listPrompts(task, page));

export const everyTask = (registry: Registry): Promise<Task[]> => every(page => registry.listTasks(page));

/** The active prompt of this kind, or else the latest one. */
export function chosen(
  { active }: Task,
  prompts: readonly PromptRecord[],
  kind: TrainedKind,
): PromptRecord | undefined {
  const fitting = prompts.filter(prompt => hasKind(prompt, kind));
  const answering = new Set(active ? mainVersions(active) : []);
  return fitting.find(({ version }) => answering.has(version)) ?? fitting.at(-1);
}

/**
 * A prompt of every other task that training by `method` can start from: a prefix from a prefix or else from virtual
 * tokens, which become one; virtual tokens from virtual tokens alone. The latest of too many. Throws `validation` where
 * there is none.
 */
export async function donorsFor(
  registry: Registry,
  engine: Engine,
  task: string,
  method: TrainMethod,
): Promise<PromptRef[]> {
  const found: PromptRecord[] = [];
  for (const other of await everyTask(registry)) {
    if (other.id === task) continue;
    const prompts = (await promptsOf(registry, other.id)).filter(prompt => compatible(prompt, engine));
    const donor =
      (method === "prefix" ? chosen(other, prompts, "prefix") : undefined) ?? chosen(other, prompts, "soft");
    if (donor) found.push(donor);
  }
  if (found.length === 0)
    throw new ForewordError(
      "validation",
      `No other task has a trained prompt of this backbone that ${method === "soft" ? "virtual tokens" : "a prefix"} could start from. Train one first, or use another start, such as "examples".`,
      { field: "init" },
    );
  return found
    .sort((a, b) => (a.created_at < b.created_at ? 1 : -1))
    .slice(0, MOST_DONORS)
    .map(({ task, version }) => ({ task, version }));
}

export const everyDataset = (registry: Registry): Promise<Dataset[]> =>
  every(page => registry.listDatasets(page));

async function every<Item>(list: (page: PageRequest) => Promise<Page<Item>>): Promise<Item[]> {
  const items: Item[] = [];
  for await (const item of itemsOf(list)) items.push(item);
  return items;
}

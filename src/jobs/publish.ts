/** A trained prompt becomes a version, once, as soon as the registry takes it. */
import { isDeepStrictEqual } from "node:util";
import type { PromptRecord } from "../contract/prompt.ts";
import type { Active, Task } from "../contract/task.ts";
import type { Activate } from "../contract/train.ts";
import { ForewordError, type Problem } from "../errors.ts";
import { withDoubts } from "../registry/doubts.ts";
import { trainedPrompt } from "../registry/new-prompt.ts";
import { itemsOf } from "../registry/page.ts";
import type { NewPrompt, Registry } from "../registry/registry.ts";
import type { Compared } from "../training/evaluation/compare.ts";
import type { TrainOutcome } from "../training/job.ts";
import { written } from "./patience.ts";
import type { TrainJobRequest, TrainWork } from "./train-work.ts";

/** A run that was stopped after its prompt was added, and before its job ended, adds no second one. */
export const keepVersion = (
  work: TrainWork,
  { file, recipe, metrics, distillation }: TrainOutcome,
  /** The place in an ensemble. */
  { member }: { member?: number } = {},
): Promise<PromptRecord> => {
  const { engine, registry } = work.options;
  const { id, request } = work.record;
  const { parent, on = null } = request as TrainJobRequest;
  const make = async () => ({
    ...(await trainedPrompt(engine, registry, file)),
    parent,
    ...(on && { on }),
    recipe: { ...recipe, job: id, ...(member !== undefined && { member }) },
    metrics: { ...metrics, ...(distillation && { distillation }) },
  });
  const told = {
    waits: "a trained prompt can't be saved yet",
    told: "the prompt is trained, and not saved yet.",
  };
  return addOnce(work, { ...(member !== undefined && { member }) }, make, told);
};

/**
 * Adds a version unless the job has left it before. A registry that could not confirm a write may have it all the same,
 * so every try looks first; what it finds is as safe as the job's end, which is written behind it. A job that has ended
 * meanwhile adds and activates nothing.
 */
export const addOnce = (
  work: Pick<TrainWork, "options" | "record" | "control">,
  trace: Trace,
  make: () => Promise<NewPrompt>,
  told: { waits: string; told: string },
): Promise<PromptRecord> => {
  const { registry } = work.options;
  const { id, task, born } = work.record;
  const add = async () =>
    (await versionOf(registry, task, id, trace)) ??
    registry.addPrompt(task, await make(), { born, job: work.record });
  return written(work, add, told);
};

/** What a job found, and whether it may take the place of what is active. */
export interface Found {
  active: Active;
  /** In the job's log. */
  name: string;
  activate: Activate;
  better: boolean;
  few: Compared["few"];
  /** `active` is null where there was nothing to compare with. */
  validation: { active: number | null };
  /** As it was when what is active was read; its labels, as they were judged by. */
  task: Pick<Task, "active" | "active_revision" | "labels">;
}

/**
 * Lets what was found answer if that is wanted, unless the job did so before it was stopped: what a person chose since
 * then stays. `if_better` replaces only what it was compared with. Nothing is activated if the task's labels are not those
 * that it was judged by. Returns whether the job has activated it.
 */
export async function activateOnce(
  work: Pick<TrainWork, "options" | "record" | "control">,
  { active, name, activate, better, few, validation, task: before }: Found,
): Promise<boolean> {
  const { registry } = work.options;
  const { id, task, born } = work.record;
  const { log } = work.control;
  const comparing = activate === "if_better";
  const compared = before.active === null || validation.active !== null;
  const wanted = activate === true || (comparing && better && compared);
  const write = async () => {
    // A try that was not confirmed may have done it.
    if (await activatedBy(registry, task, id)) return true;
    if (!wanted) return false;
    const now = await registry.getTask(task, { born });
    if (!isDeepStrictEqual(now.labels, before.labels)) return null;
    const answering = withDoubts(active, now.active);
    const expected = comparing ? { expected: before.active_revision } : {};
    await registry.setActive(task, answering, id, { ...expected, born, job: work.record });
    return true;
  };
  try {
    const activated = await written(work, write, {
      waits: "what a job found can't be activated yet",
      told: "what was found is not active yet.",
    });
    if (activated === null)
      log(`the task's labels were changed meanwhile, by which ${name} was not judged; what is active stays`);
    else if (!activated && comparing)
      log(compared ? unproven(name, few) : `${name} can't be compared with what is active, which stays`);
    return activated ?? false;
  } catch (error) {
    const code = error instanceof ForewordError ? error.code : undefined;
    if (code === "prompt_not_found") log(`${name} was deleted meanwhile; what is active stays`);
    else if (comparing && code === "revision_conflict")
      log(`another prompt was activated meanwhile, with which ${name} was not compared; it stays`);
    else throw error;
    return false;
  }
}

const unproven = (name: string, few: Found["few"]): string =>
  few
    ? `${few.examples} validation examples are too few to find ${name} better beyond chance, which takes ${few.least} at least; what was active stays. Send more examples, or use "activate": true`
    : `${name} is not better beyond chance; what was active stays`;

/** Whether the task's latest activations have one of this job. */
export async function activatedBy(registry: Registry, task: string, job: string): Promise<boolean> {
  const { items } = await registry.listHistory(task, { limit: 200 });
  return items.some(({ by }) => by === job);
}

/** What tells a job's versions apart: the place in its ensemble or its table, and there the words. */
export interface Trace {
  member?: number;
  template?: string;
}

/** The version that a job, or a member of its ensemble, has left before. */
export async function versionOf(
  registry: Registry,
  task: string,
  job: string,
  { member, template }: Trace = {},
): Promise<PromptRecord | undefined> {
  for await (const record of itemsOf(page => registry.listPrompts(task, page))) {
    const made = record.recipe as { job?: string; member?: number } | null;
    const words = template === undefined || record.template === template;
    if (made?.job === job && made.member === member && words) return record;
  }
  return undefined;
}

/**
 * The problem of a run whose numbers are not finite any more. It names the version of the best prompt before that, which
 * is never activated.
 */
export function failed(failure: Problem, version: number, validation: object): ForewordError {
  const detail = `${failure.detail} Version ${version} is the best that was found before; it is not active.`;
  return ForewordError.fromProblem({ ...failure, detail, version, validation });
}

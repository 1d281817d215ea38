/** Training a task's active prompts again on the backbone that is loaded, from the requests that made them. */
import type { PromptRecord } from "../contract/prompt.ts";
import type { RetrainReason } from "../contract/retrain.ts";
import type { Active, Task } from "../contract/task.ts";
import type { TrainSettingsRequest } from "../contract/train.ts";
import type { Engine } from "../engine/engine.ts";
import { orElse } from "../errors.ts";
import { fits } from "../jobs/contents.ts";
import { keptFor, namedStart, type TrainJobRequest } from "../jobs/train-work.ts";
import { compileTemplate, hasSlots } from "../prompt/template.ts";
import { jobOf } from "../registry/job-rows.ts";
import type { Registry } from "../registry/registry.ts";
import { answering } from "./routing.ts";
import { baseOn } from "./stack.ts";
import { dataFor } from "./task-data.ts";
import { checkSettings } from "./train-request.ts";
import { donorsFor } from "./trained.ts";

export interface Retraining {
  versions: number[];
  request: TrainJobRequest;
  /** Settings that could not stay. */
  changed: string[];
}

/** Why a task is left as it is. */
export class Skipped extends Error {
  readonly reason: RetrainReason;

  constructor(reason: RetrainReason, detail: string) {
    super(detail);
    this.reason = reason;
  }
}

export interface Planning {
  registry: Registry;
  engine: Engine;
  /** Data sets by the blob that they are. */
  datasets: ReadonlyMap<string, string>;
  activate: boolean;
}

/** The jobs that a task needs: one, unless several trainings answer together. Throws `Skipped`. */
export async function retrainings(planning: Planning, task: Task): Promise<Retraining[]> {
  const { registry, engine, activate } = planning;
  if (!task.active) throw new Skipped("nothing_active", "The task has no active prompt.");
  const records = await Promise.all(
    answering(task.active).map(version => registry.getPrompt(task.id, version)),
  );
  const { fingerprint } = engine.backbone();
  const old = records.filter(record => !fits(record, fingerprint));
  if (old.length === 0)
    throw new Skipped(
      "works",
      records.every(({ bytes }) => bytes === 0)
        ? "It answers with words alone, which work on every backbone."
        : "What is active is of this backbone.",
    );
  const found: Retraining[] = [];
  for (const job of new Set(old.map(jobOf))) {
    const prompts = old.filter(record => jobOf(record) === job);
    found.push(await again(planning, task, job, prompts));
  }
  const whole = found.length === 1 && old.length === records.length && !task.active.split;
  return found.map(each => ({ ...each, request: { ...each.request, activate: activate && whole } }));
}

const noRecipe = (versions: readonly number[]) =>
  new Skipped("no_recipe", `How version ${versions} was trained is not known here. Train it by hand.`);

/** Every version that answers; a shadow does not. */
async function again(
  planning: Planning,
  task: Task,
  job: string | undefined,
  prompts: readonly PromptRecord[],
): Promise<Retraining> {
  const { registry, engine, datasets } = planning;
  const versions = prompts.map(({ version }) => version);
  const made = job === undefined ? null : await registry.getJob(job).catch(unknown);
  if (made?.kind !== "train") throw noRecipe(versions);
  const before = made.request as TrainJobRequest;
  for (const blob of [before.examples, before.validation])
    if (typeof blob === "string" && !datasets.has(blob))
      throw new Skipped(
        "data_gone",
        `The examples of version ${versions} are no data set, or not any more. Send them by POST /datasets, and train by hand.`,
      );
  await checkTeacher(registry, engine, made.task === task.id ? task : null, before);
  const base = await baseAgain(registry, engine, before);
  const changed = new Set<string>();
  const { settings, ensemble } = ofMembers(before, task.active!, prompts);
  const fitted = async (given: TrainSettingsRequest): Promise<TrainSettingsRequest> => {
    if (await stays(registry, engine, task.id, given)) return given;
    const { init, ...rest } = given;
    changed.add("init");
    if (!hasLength(rest, before.template)) changed.add("length");
    return rest;
  };
  const members = ensemble && { ...ensemble, members: await Promise.all(ensemble.members.map(fitted)) };
  const all = members?.members ?? [await fitted(settings)];
  const chooses = all.find(({ init }) => init === "donor");
  const request: TrainJobRequest = {
    ...before,
    settings: members ? await fitted(settings) : all[0]!,
    ensemble: members,
    parent: { task: task.id, version: versions[0]! },
    base: base && (await registry.putBlob(base.file)),
    donors: chooses ? await donorsFor(registry, engine, task.id, chooses.method ?? "prefix") : [],
  };
  for (const each of all) await checkSettings(registry, engine, task, request.template, each, base);
  await dataFor(registry, task, [request.template], datasets.get(request.examples)!, "examples");
  const kept = await keptFor(registry, task.id, request);
  return { versions, request: { ...request, kept }, changed: [...changed] };
}

/** The request, with only those members of its ensemble that still answer. */
function ofMembers(
  { settings, ensemble }: TrainJobRequest,
  { vote = "mean" }: Active,
  prompts: readonly PromptRecord[],
): Pick<TrainJobRequest, "settings" | "ensemble"> {
  if (!ensemble) return { settings, ensemble };
  const members = prompts.map(({ recipe, version }) => {
    const found = ensemble.members[(recipe as { member: number }).member];
    if (found) return found;
    throw noRecipe([version]);
  });
  return members.length === 1
    ? { settings: members[0]!, ensemble: null }
    : { settings, ensemble: { members, vote } };
}

/** Whether a start can be had here. */
async function stays(
  registry: Registry,
  engine: Engine,
  task: string,
  settings: TrainSettingsRequest,
): Promise<boolean> {
  const { init, method = "prefix" } = settings;
  if (init === "donor") return donorsFor(registry, engine, task, method).then(() => true, unfit);
  const start = namedStart(settings);
  if (start === null) return true;
  const record = await registry.getPrompt(start.task, start.version).catch(unknown);
  return record !== null && fits(record, engine.backbone().fingerprint);
}

/** Whether what is trained has its length whatever it starts from: by the request, or by soft slots. */
const hasLength = ({ length, method }: TrainSettingsRequest, template: string): boolean =>
  length !== undefined || (method === "soft" && hasSlots(compileTemplate(template)));

/** Records from before prompts were stacked name none. */
async function baseAgain(registry: Registry, engine: Engine, { on, base = null }: TrainJobRequest) {
  if (base === null) return null;
  const record = on && (await registry.getPrompt(on.task, on.version).catch(unknown));
  if (record && fits(record, engine.backbone().fingerprint)) return baseOn(registry, engine, on!);
  throw new Skipped(
    "base_gone",
    on
      ? `It stands on version ${on.version} of ${on.task}, which is gone or of another backbone. Train that first, and this on the new one.`
      : "What it stands on is no version any more. Train it by hand.",
  );
}

/** `task` is the one that the teacher belongs to; null if the prompt was copied from another task, which has it. */
async function checkTeacher(
  registry: Registry,
  engine: Engine,
  task: Task | null,
  { teacher }: TrainJobRequest,
): Promise<void> {
  if (!teacher || "template" in teacher) return;
  if (task === null)
    throw new Skipped(
      "teacher_gone",
      "It was copied from another task, where its teacher is. Distil that task's prompt again, and copy it.",
    );
  const record = await registry.getPrompt(task.id, teacher.version).catch(unknown);
  if (record && fits(record, engine.backbone().fingerprint)) return;
  throw new Skipped(
    "teacher_gone",
    `Its teacher, version ${teacher.version}, is gone or of another backbone. Train it with examples, or name another teacher.`,
  );
}

const unknown = orElse(null, "task_not_found", "prompt_not_found", "job_not_found");
const unfit = orElse(false as const, "validation");

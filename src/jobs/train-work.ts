/** What a training job is made of: the registry's records as `TrainJob`s, each one run of a trainer. */
import type { PromptRef } from "../contract/common.ts";
import type { Task, Verbalizers, Vote } from "../contract/task.ts";
import type { Activate, TrainSettingsRequest } from "../contract/train.ts";
import type { Engine } from "../engine/engine.ts";
import { ForewordError, orElse } from "../errors.ts";
import { trainingPrecision } from "../gate/choice.ts";
import { sameFields } from "../prompt/fields.ts";
import { compileTemplate } from "../prompt/template.ts";
import type { JobRecord, Registry } from "../registry/registry.ts";
import type { ActivePrompts, Donor, Fitted, TrainJob } from "../training/job.ts";
import {
  contentOf,
  fits,
  type KeptPrompt,
  keep,
  keptOr,
  mainVersions,
  servedPrecision,
  withParameters,
} from "./contents.ts";
import type { JobControl } from "./jobs.ts";
import { fetched } from "./patience.ts";
import { runTrainer, type TrainerOptions } from "./trainer.ts";

/** A training job's request as its record keeps it: data by blob, the template decided. */
export interface TrainJobRequest {
  settings: TrainSettingsRequest;
  template: string;
  /** Blobs, or the share of the examples that validates. */
  examples: string;
  validation: string | number;
  activate: Activate;
  /** The version that the template came from, and what stands for labels with it alone. */
  parent: PromptRef | null;
  verbalizers: Verbalizers | null;
  /** What the new prompt is stacked on: the version that was named, and the blob that holds it (`platform`). */
  on: PromptRef | null;
  base: string | null;
  /** What a distillation learns from: a version, or a hard prompt that is none. */
  teacher: { version: number; fitted?: Fitted } | { template: string } | null;
  /** Prompts of which `init` may choose one: decided with the request, so that a run that goes on chooses the same. */
  donors?: PromptRef[];
  /** What `init`, `teacher` and `donors` name; earlier versions' records lack it. */
  kept?: KeptPrompt[];
  /** Each member's own settings. */
  ensemble: { members: TrainSettingsRequest[]; vote: Vote } | null;
}

export interface TrainRunnerOptions extends TrainerOptions {
  registry: Registry;
  engine: Engine;
}

/** What every part of a training job needs. */
export interface TrainWork {
  options: TrainRunnerOptions;
  record: JobRecord;
  task: Task;
  control: JobControl;
}

/** One run of a trainer. Of an ensemble's members none is compared with what is active: that is all of them together. */
export async function trained(work: TrainWork, settings: TrainSettingsRequest, start: Start) {
  const { options, control } = work;
  const job = await fetched(work, () => jobOf(work, settings, start));
  const learning = trainingPrecision(settings.precision, options.engine.backbone());
  return runTrainer(options, servedPrecision(options.engine), "train", { ...job, learning }, control);
}

/** Which member of an ensemble it is, and the blob that it goes on from. */
interface Start {
  member?: number;
  checkpoint: string | null;
}

async function jobOf(
  { options: { registry, engine }, record, task, control }: TrainWork,
  settings: TrainSettingsRequest,
  { member = 0, checkpoint }: Start,
): Promise<TrainJob> {
  const {
    template,
    ensemble,
    teacher = null,
    base = null,
    donors = [],
    kept = [],
    ...request
  } = record.request as TrainJobRequest;
  const named = namedStart(settings);
  return {
    ...(await dataOf(registry, task, request)),
    request: settings,
    template,
    verbalizers: request.verbalizers ?? null,
    base: base === null ? null : await registry.getBlob(base),
    initial: named && (await withParameters(registry, await keptOr(registry, kept, named))),
    donors: settings.init === "donor" ? await donorsOf(registry, donors, kept) : [],
    teacher: teacher && (await teacherOf(registry, task.id, teacher, request.verbalizers, kept)),
    // A distilled prefix is judged by its teacher's answers, which the teacher itself gives best.
    active: ensemble || teacher ? null : await activeOf(registry, engine, task, template),
    member,
    checkpoint: checkpoint === null ? null : await checkpointOf(registry, checkpoint, control),
    checkpointSeconds: settings.checkpoint_seconds ?? 30,
  };
}

/** Null where it is lost for good, to a fail-over perhaps: waiting would not bring it back. */
const checkpointOf = (registry: Registry, blob: string, { log }: JobControl): Promise<Uint8Array | null> =>
  registry.getBlob(blob).catch(error => {
    if (!(error instanceof ForewordError && error.fields.blob === blob)) throw error;
    log("its last checkpoint is gone; it begins again");
    return null;
  });

/** The version that a training is to start from, if it names one. */
export const namedStart = ({ init }: TrainSettingsRequest): PromptRef | null =>
  typeof init === "object" && "prompt" in init ? init.prompt : null;

/** What a training needs of versions that may be gone when it begins, or goes on. Throws as `keep`. */
export function keptFor(
  registry: Registry,
  task: string,
  {
    settings,
    ensemble,
    teacher,
    donors = [],
  }: Pick<TrainJobRequest, "settings" | "ensemble" | "teacher" | "donors">,
): Promise<KeptPrompt[]> {
  const starts = (ensemble?.members ?? [settings]).map(namedStart).filter(start => start !== null);
  const taught = teacher && "version" in teacher ? [{ task, version: teacher.version }] : [];
  return keep(registry, [...starts, ...taught, ...donors]);
}

/** Those that are kept or still there. */
export async function donorsOf(
  registry: Registry,
  names: readonly PromptRef[],
  kept: readonly KeptPrompt[] = [],
): Promise<Donor[]> {
  const found: Donor[] = [];
  for (const { task, version } of names) {
    const record = await keptOr(registry, kept, { task, version }).catch(gone);
    if (record)
      found.push({ task, version, kind: record.kind, content: await withParameters(registry, record) });
  }
  return found;
}

const gone = orElse(null, "task_not_found", "prompt_not_found");

async function teacherOf(
  registry: Registry,
  task: string,
  teacher: NonNullable<TrainJobRequest["teacher"]>,
  verbalizers: Verbalizers | null,
  kept: readonly KeptPrompt[],
): Promise<NonNullable<TrainJob["teacher"]>> {
  if ("version" in teacher) {
    const { version, fitted } = teacher;
    const record = await keptOr(registry, kept, { task, version });
    return { ...(await withParameters(registry, record)), ...(fitted && { fitted }) };
  }
  return { template: teacher.template, parameters: null, ...(verbalizers && { verbalizers }) };
}

/** A job's examples; whoever validates on a share of them gets the same share. */
export async function dataOf(
  registry: Registry,
  { id, type, labels, description }: Task,
  {
    examples,
    validation,
    settings,
  }: Pick<TrainJobRequest, "examples" | "validation"> & { settings: { seed?: number } },
) {
  return {
    task: { id, type, labels, description },
    examples: await registry.getBlob(examples),
    validation: typeof validation === "number" ? validation : await registry.getBlob(validation),
    splitSeed: settings.seed ?? 0,
  };
}

/** What a new prompt is compared with, if it takes the same fields and can be served at all. */
export async function activeOf(
  registry: Registry,
  engine: Engine,
  { id, active }: Pick<Task, "id" | "active">,
  template: string,
): Promise<ActivePrompts | null> {
  const versions = active ? mainVersions(active) : [];
  const records = await Promise.all(versions.map(version => registry.getPrompt(id, version)));
  const { fingerprint } = engine.backbone();
  if (!active || !records.every(record => fits(record, fingerprint))) return null;
  const found = await promptsOf(registry, id, active);
  const { fields } = compileTemplate(template);
  const comparable = found.prompts.every(prompt =>
    sameFields(compileTemplate(prompt.template).fields, fields),
  );
  return comparable ? found : null;
}

export async function promptsOf(
  registry: Registry,
  task: string,
  active: ActivePrompts["active"],
): Promise<ActivePrompts> {
  const versions = mainVersions(active);
  const prompts = await Promise.all(versions.map(version => contentOf(registry, task, version)));
  return { prompts, active };
}

/** The runner of training jobs: the registry's records become a `TrainJob`, its outcome becomes a prompt version. */
import type { JobResult } from "../contract/job.ts";
import type { PromptRecord } from "../contract/prompt.ts";
import type { Active, Task } from "../contract/task.ts";
import type { Activate, TrainSettingsRequest } from "../contract/train.ts";
import type { Engine, PromptContent } from "../engine/engine.ts";
import { ForewordError } from "../errors.ts";
import { trainingPrecision } from "../gate/choice.ts";
import { trainedPrompt } from "../registry/new-prompt.ts";
import type { JobRecord, Registry } from "../registry/registry.ts";
import type { ActivePrompts, TrainJob, TrainOutcome } from "../training/job.ts";
import type { JobControl, Runner } from "./jobs.ts";
import { patiently } from "./patience.ts";
import { runTrainer, type TrainerOptions } from "./trainer.ts";

/** How long a trained prompt waits for a registry that can't take it. */
const PUBLISH_MS = 600_000;

/** A training job's request as its record keeps it: data by blob, the template decided. */
export interface TrainJobRequest {
  settings: TrainSettingsRequest;
  template: string;
  /** Blobs, or the share of the examples that validates. */
  examples: string;
  validation: string | number;
  activate: Activate;
  /** The version that the template came from. */
  parent: { task: string; version: number } | null;
}

export interface TrainRunnerOptions extends TrainerOptions {
  registry: Registry;
  engine: Engine;
}

export const trainRunner =
  (options: TrainRunnerOptions): Runner =>
  async (record, control) => {
    const { engine, registry } = options;
    await engine.ready();
    const request = record.request as TrainJobRequest;
    const task = await registry.getTask(record.task);
    const job = await jobOf(registry, record, request, task);
    const precision = trainingPrecision(request.settings.precision, engine.backbone());
    const outcome = await runTrainer(options, precision, job, control);
    return publish(options, record, request, outcome, control);
  };

async function jobOf(
  registry: Registry,
  { checkpoint }: JobRecord,
  request: TrainJobRequest,
  task: Task,
): Promise<TrainJob> {
  const { settings, template, examples, validation } = request;
  const { init } = settings;
  const named = typeof init === "object" && "prompt" in init ? init.prompt : null;
  return {
    task: { id: task.id, type: task.type, labels: task.labels, description: task.description },
    request: settings,
    template,
    initial: named && (await contentOf(registry, named.task, named.version)),
    examples: await registry.getBlob(examples),
    validation: typeof validation === "number" ? validation : await registry.getBlob(validation),
    active: await activeOf(registry, task),
    checkpoint: checkpoint === null ? null : await registry.getBlob(checkpoint),
    checkpointSeconds: settings.checkpoint_seconds ?? 30,
  };
}

async function contentOf(registry: Registry, task: string, version: number): Promise<PromptContent> {
  const { template, parameters } = await registry.getPrompt(task, version);
  return { template, parameters: parameters === null ? null : await registry.getBlob(parameters) };
}

/** What a new prompt is compared with: of a split, the part that most requests come to. */
async function activeOf(registry: Registry, { id, active }: Task): Promise<ActivePrompts | null> {
  if (!active) return null;
  const versions = active.ensemble ?? [active.prompt ?? mainOf(active.split!)];
  const prompts = await Promise.all(versions.map(version => contentOf(registry, id, version)));
  return { prompts, active };
}

const mainOf = (split: NonNullable<Active["split"]>): number =>
  split.reduce((most, part) => (part.weight > most.weight ? part : most)).prompt;

/**
 * A run that was stopped after its prompt was added, and before its job ended, adds no second one. Of a run that left
 * the finite numbers, the best prompt so far becomes a version that is never activated, and the job's error names it.
 */
async function publish(
  { engine, registry, log: serverLog }: TrainRunnerOptions,
  { id, task }: JobRecord,
  { activate, parent }: TrainJobRequest,
  { file, recipe, metrics, validation, better, failure }: TrainOutcome,
  { log, signal }: JobControl,
): Promise<JobResult> {
  const known = (await allPrompts(registry, task)).find(
    prompt => (prompt.recipe as { job?: string } | null)?.job === id,
  );
  const wanted = failure === null && (activate === true || (activate === "if_better" && better));
  const add = async () => {
    const prompt = await trainedPrompt(engine, registry, file);
    return registry.addPrompt(
      task,
      { ...prompt, parent, recipe: { ...recipe, job: id }, metrics },
      wanted ? { activate: { by: id } } : {},
    );
  };
  const record =
    known ??
    (await patiently(add, {
      signal,
      within: PUBLISH_MS,
      onFailure: error => {
        serverLog.error({ err: error, job: id }, "a trained prompt can't be saved yet");
        log(`the prompt is trained, and not saved yet. ${error.message}`);
      },
    }));
  if (failure) {
    const { version } = record;
    const detail = `${failure.detail} Version ${version} is the best that was found before; it is not active.`;
    throw ForewordError.fromProblem({ ...failure, detail, version, validation });
  }
  if (activate === "if_better" && !better)
    log(`version ${record.version} is not better beyond chance; what was active stays`);
  return { versions: [record.version], validation, activated: wanted };
}

async function allPrompts(registry: Registry, task: string): Promise<PromptRecord[]> {
  const all: PromptRecord[] = [];
  let cursor: string | null = null;
  do {
    const page = await registry.listPrompts(task, { limit: 1000, ...(cursor !== null && { cursor }) });
    all.push(...page.items);
    cursor = page.next_cursor;
  } while (cursor !== null);
  return all;
}

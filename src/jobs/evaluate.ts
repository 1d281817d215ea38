/** The runner of evaluations: the registry's records become an `EvaluateJob`, its report the job's result. */
import type { ClassifierReport, EvaluateSettings, LeftOut } from "../contract/evaluate.ts";
import type { Active, Contender } from "../contract/task.ts";
import type { Engine } from "../engine/engine.ts";
import { ForewordError, orElse } from "../errors.ts";
import type { JobRecord, Registry } from "../registry/registry.ts";
import { SIGNIFICANT } from "../training/evaluation/compare.ts";
import type { EvaluateJob } from "../training/evaluation/report.ts";
import { contentOf, mainVersions, servedPrecision } from "./contents.ts";
import type { Runner } from "./jobs.ts";
import { fetched, written } from "./patience.ts";
import { activatedBy } from "./publish.ts";
import type { TrainWork } from "./train-work.ts";
import { runTrainer, type TrainerOptions } from "./trainer.ts";

/** What is evaluated: as it is named, and the record that lets it answer. */
export interface Contending {
  /** Unless it follows from the prompt. */
  name?: string;
  prompt: Contender;
  active: Active;
}

/** An evaluation as its record keeps it: data by blob, what is evaluated decided. */
export interface EvaluateJobRequest {
  contenders: Contending[];
  /** A blob. */
  examples: string;
  settings: EvaluateSettings;
  /** The revision of the active record that is evaluated first, where that is what `store` changes. */
  stores: number | null;
}

export interface EvaluateRunnerOptions extends TrainerOptions {
  registry: Registry;
  engine: Engine;
}

export const evaluateRunner =
  (options: EvaluateRunnerOptions): Runner =>
  async (record, control) => {
    const work = { options, record, control };
    const { stores } = record.request as EvaluateJobRequest;
    const { job, gone } = await fetched(work, () => jobOf(options.registry, record));
    for (const { name, reason } of gone) control.log(`${name} is left out: ${reason}`);
    if (job.contestants.length === 0)
      throw new ForewordError("prompt_not_found", "All that was to be evaluated was deleted. Name others.");
    const report = await runTrainer(options, servedPrecision(options.engine), "evaluate", job, control);
    const [first] = report.prompts;
    const stored =
      stores !== null && first && "calibration" in first && first.calibration
        ? await store(work, stores, first)
        : false;
    return { ...report, left_out: [...gone, ...report.left_out], stored };
  };

async function jobOf(
  registry: Registry,
  { task, born, request }: JobRecord,
): Promise<{ job: EvaluateJob; gone: LeftOut[] }> {
  const { contenders, examples, settings } = request as EvaluateJobRequest;
  const { id, type, labels } = await registry.getTask(task, { born });
  const contestants: EvaluateJob["contestants"] = [];
  const gone: LeftOut[] = [];
  for (const each of contenders) {
    const named = { name: nameOf(each), prompt: each.prompt };
    const contents = mainVersions(each.active).map(version => contentOf(registry, id, version));
    const prompts = await Promise.all(contents).catch(orElse(null, "prompt_not_found"));
    if (prompts) contestants.push({ ...named, active: each.active, prompts });
    else gone.push({ ...named, reason: "It, or a member of it, was deleted before its turn." });
  }
  const job = {
    task: { id, type, labels },
    contestants,
    examples: await registry.getBlob(examples),
    settings,
  };
  return { job, gone };
}

/** "3", "2+3+4 by majority", or "2+3 by weighted 0.7:0.3". */
export function nameOf({ name, prompt }: Pick<Contending, "name" | "prompt">): string {
  if (name !== undefined || typeof prompt === "number") return name ?? String(prompt);
  const { ensemble, vote = "mean", weights = [] } = prompt;
  const given = weights.map(weight => Number(weight.toPrecision(3))).join(":");
  return `${ensemble.join("+")} by ${vote} ${given}`.trimEnd();
}

/**
 * Whether the temperature is in the active record now. It is not if it does not make the examples that it was not fitted
 * to likelier beyond chance, or if another prompt was activated meanwhile.
 */
export async function store(
  work: Pick<TrainWork, "options" | "record" | "control">,
  revision: number,
  { log_loss, calibration }: Pick<ClassifierReport, "log_loss" | "calibration">,
): Promise<boolean> {
  const { registry } = work.options;
  const { id, task, born } = work.record;
  const { log } = work.control;
  const { temperature, after, p_value: p } = calibration!;
  if (!(after.log_loss < log_loss && p < SIGNIFICANT)) {
    log(
      `a temperature of ${temperature.toFixed(3)} is not stored: fitted to half of the examples it makes the log loss of the others no lower beyond chance, ${after.log_loss.toFixed(4)} with it and ${log_loss.toFixed(4)} without (p ${p.toPrecision(2)}). More examples fit it better, and tell more`,
    );
    return false;
  }
  const write = async () => {
    const { active } = await registry.getTask(task);
    // A job that was stopped behind this write, and runs again; or a try that was not confirmed.
    if (await activatedBy(registry, task, id)) return true;
    await registry.setActive(task, { ...active!, temperature }, id, {
      expected: revision,
      born,
      job: work.record,
    });
    log(`the active record has a temperature of ${temperature.toFixed(3)} now`);
    return true;
  };
  try {
    return await written(work, write, {
      waits: "a temperature can't be stored yet",
      told: "the temperature is found, and not stored yet.",
    });
  } catch (error) {
    if (!(error instanceof ForewordError && error.code === "revision_conflict")) throw error;
    log("another prompt was activated meanwhile; the temperature is not stored");
    return false;
  }
}

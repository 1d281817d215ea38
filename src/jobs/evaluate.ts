/** The runner of evaluations: the registry's records become an `EvaluateJob`, its report the job's result. */
import type { ClassifierReport, EvaluateSettings } from "../contract/evaluate.ts";
import type { Active, Contender } from "../contract/task.ts";
import type { Engine } from "../engine/engine.ts";
import { ForewordError } from "../errors.ts";
import type { JobRecord, Registry } from "../registry/registry.ts";
import type { EvaluateJob } from "../training/evaluation/report.ts";
import { contentOf, servedPrecision, versionsOf } from "./contents.ts";
import type { Runner } from "./jobs.ts";
import { fetched, written } from "./patience.ts";
import { activatedBy } from "./publish.ts";
import type { TrainWork } from "./train-work.ts";
import { runTrainer, type TrainerOptions } from "./trainer.ts";

/** An evaluation as its record keeps it: data by blob, what is evaluated decided. */
export interface EvaluateJobRequest {
  contenders: { prompt: Contender; active: Active }[];
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
    const job = await fetched(work, () => jobOf(options.registry, record));
    const report = await runTrainer(options, servedPrecision(options.engine), "evaluate", job, control);
    const [first] = report.prompts;
    const stored =
      stores !== null && first && "calibration" in first && first.calibration
        ? await store(work, stores, first)
        : false;
    return { ...report, stored };
  };

async function jobOf(registry: Registry, { task, born, request }: JobRecord): Promise<EvaluateJob> {
  const { contenders, examples, settings } = request as EvaluateJobRequest;
  const { id, type, labels } = await registry.getTask(task, { born });
  const contestants = await Promise.all(
    contenders.map(async ({ prompt, active }) => ({
      name: nameOf(prompt),
      prompt,
      active,
      prompts: await Promise.all(versionsOf(active).map(version => contentOf(registry, id, version))),
    })),
  );
  return { task: { id, type, labels }, contestants, examples: await registry.getBlob(examples), settings };
}

/** "3", or "2+3+4 by majority". */
export const nameOf = (prompt: Contender): string =>
  typeof prompt === "number" ? String(prompt) : `${prompt.ensemble.join("+")} by ${prompt.vote ?? "mean"}`;

/**
 * Whether the temperature is in the active record now: not where the examples that did not fit it are no likelier with
 * it, nor where another prompt was activated meanwhile.
 */
export async function store(
  work: Pick<TrainWork, "options" | "record" | "control">,
  revision: number,
  { log_loss, calibration }: Pick<ClassifierReport, "log_loss" | "calibration">,
): Promise<boolean> {
  const { registry } = work.options;
  const { id, task, born } = work.record;
  const { log } = work.control;
  const { temperature, after } = calibration!;
  if (!(after.log_loss < log_loss)) {
    log(
      `a temperature of ${temperature.toFixed(3)} is not stored: fitted to half of the examples it makes the log loss of the others no lower, ${after.log_loss.toFixed(4)} with it and ${log_loss.toFixed(4)} without. More examples fit it better`,
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

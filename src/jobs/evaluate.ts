/** The runner of evaluations: the registry's records become an `EvaluateJob`, its report the job's result. */
import type { EvaluateSettings } from "../contract/evaluate.ts";
import type { Active, Contender } from "../contract/task.ts";
import type { Engine } from "../engine/engine.ts";
import { ForewordError } from "../errors.ts";
import type { Registry } from "../registry/registry.ts";
import { contentOf, servedPrecision, versionsOf } from "./contents.ts";
import type { JobControl, Runner } from "./jobs.ts";
import { activatedBy } from "./publish.ts";
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
    const { engine, registry } = options;
    const { contenders, examples, settings, stores } = record.request as EvaluateJobRequest;
    const { id, type, labels } = await registry.getTask(record.task);
    const contestants = await Promise.all(
      contenders.map(async ({ prompt, active }) => ({
        name: nameOf(prompt),
        prompt,
        active,
        prompts: await Promise.all(versionsOf(active).map(version => contentOf(registry, id, version))),
      })),
    );
    const job = {
      task: { id, type, labels },
      contestants,
      examples: await registry.getBlob(examples),
      settings,
    };
    const report = await runTrainer(options, servedPrecision(engine), "evaluate", job, control);
    const [first] = report.prompts;
    const stored =
      stores !== null && first && "calibration" in first && first.calibration
        ? await store(registry, record, stores, first.calibration.temperature, control)
        : false;
    return { ...report, stored };
  };

/** "3", or "2+3+4 by majority". */
export const nameOf = (prompt: Contender): string =>
  typeof prompt === "number" ? String(prompt) : `${prompt.ensemble.join("+")} by ${prompt.vote ?? "mean"}`;

/** Whether the temperature is in the active record now: not where another one was activated meanwhile. */
async function store(
  registry: Registry,
  { id, task }: { id: string; task: string },
  revision: number,
  temperature: number,
  { log }: JobControl,
): Promise<boolean> {
  const { active } = await registry.getTask(task);
  // A job that was stopped behind this write, and runs again.
  if (await activatedBy(registry, task, id)) return true;
  try {
    await registry.setActive(task, { ...active!, temperature }, id, { expected: revision });
    log(`the active record has a temperature of ${temperature.toFixed(3)} now`);
    return true;
  } catch (error) {
    if (!(error instanceof ForewordError && error.code === "revision_conflict")) throw error;
    log("another prompt was activated meanwhile; the temperature is not stored");
    return false;
  }
}

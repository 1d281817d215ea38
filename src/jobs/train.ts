/** The runner of training jobs: an outcome becomes a prompt version. */
import type { JobResult } from "../contract/job.ts";
import type { TrainSettingsRequest } from "../contract/train.ts";
import { trainEnsemble } from "./ensemble.ts";
import type { Runner } from "./jobs.ts";
import { activatedBy, failed, isWanted, keepVersion } from "./publish.ts";
import { type TrainJobRequest, type TrainRunnerOptions, type TrainWork, trained } from "./train-work.ts";

export const trainRunner =
  (options: TrainRunnerOptions): Runner =>
  async (record, control) => {
    await options.engine.ready();
    const { ensemble, settings } = record.request as TrainJobRequest;
    const task = await options.registry.getTask(record.task);
    const work = { options, record, task, control };
    return ensemble ? trainEnsemble(work, ensemble) : trainOne(work, settings);
  };

async function trainOne(work: TrainWork, settings: TrainSettingsRequest): Promise<JobResult> {
  const { activate } = work.record.request as TrainJobRequest;
  const outcome = await trained(work, settings, { checkpoint: work.record.checkpoint });
  const { better, failure, validation } = outcome;
  const wanted = failure === null && isWanted(activate, better);
  const { version } = await keepVersion(work, outcome, { activate: wanted });
  if (failure) throw failed(failure, version, validation);
  if (activate === "if_better" && !better)
    work.control.log(`version ${version} is not better beyond chance; what was active stays`);
  const { distillation } = outcome;
  const activated = wanted || (await activatedBy(work.options.registry, work.task.id, work.record.id));
  return { versions: [version], validation, activated, ...(distillation && { distillation }) };
}

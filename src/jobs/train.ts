/** The runner of training jobs: an outcome becomes a prompt version. */
import type { JobResult } from "../contract/job.ts";
import type { TrainSettingsRequest } from "../contract/train.ts";
import { trainEnsemble } from "./ensemble.ts";
import type { Runner } from "./jobs.ts";
import { fetched } from "./patience.ts";
import { activateOnce, failed, keepVersion } from "./publish.ts";
import { type TrainJobRequest, type TrainRunnerOptions, type TrainWork, trained } from "./train-work.ts";

export const trainRunner =
  (options: TrainRunnerOptions): Runner =>
  async (record, control) => {
    const { ensemble, settings } = record.request as TrainJobRequest;
    const task = await fetched({ options, record, control }, () =>
      options.registry.getTask(record.task, record),
    );
    const work = { options, record, task, control };
    return ensemble ? trainEnsemble(work, ensemble) : trainOne(work, settings);
  };

async function trainOne(work: TrainWork, settings: TrainSettingsRequest): Promise<JobResult> {
  const { activate } = work.record.request as TrainJobRequest;
  const outcome = await trained(work, settings, { checkpoint: work.record.checkpoint });
  const { better, failure, few, validation } = outcome;
  const { version } = await keepVersion(work, outcome);
  if (failure) throw failed(failure, version, validation);
  const { distillation } = outcome;
  const found = { active: { prompt: version }, name: `version ${version}`, better, few, validation };
  const activated = await activateOnce(work, { ...found, activate, task: work.task });
  return { versions: [version], validation, activated, ...(distillation && { distillation }) };
}

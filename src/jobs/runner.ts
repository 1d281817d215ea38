/** What a job does, by its kind. */
import type { JobKind } from "../contract/job.ts";
import { ForewordError } from "../errors.ts";
import { donorsRunner } from "./donors.ts";
import { evaluateRunner } from "./evaluate.ts";
import type { Runner } from "./jobs.ts";
import { searchRunner } from "./search.ts";
import { trainRunner } from "./train.ts";
import type { TrainRunnerOptions } from "./train-work.ts";

const runners: Partial<Record<JobKind, (options: TrainRunnerOptions) => Runner>> = {
  train: trainRunner,
  evaluate: evaluateRunner,
  search: searchRunner,
  donors: donorsRunner,
};

/** Runs a job where its backbone is loaded; elsewhere it fails, `backbone_mismatch`. */
export function createRunner(options: TrainRunnerOptions): Runner {
  return async (record, control) => {
    await options.engine.ready();
    const { name, fingerprint } = options.engine.backbone();
    if ((record.backbone ?? fingerprint) !== fingerprint)
      throw new ForewordError(
        "backbone_mismatch",
        `The job is for the backbone ${record.backbone!.slice(0, 12)}…, and ${name} (${fingerprint.slice(0, 12)}…) is loaded now. Send it again.`,
        { job: record.backbone, backbone: fingerprint },
      );
    const runner = runners[record.kind];
    if (!runner) throw new Error(`this server runs no jobs of kind ${record.kind}`);
    return runner(options)(record, control);
  };
}

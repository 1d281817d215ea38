/** What a job does, by its kind. */
import type { JobKind } from "../contract/job.ts";
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

export function createRunner(options: TrainRunnerOptions): Runner {
  return (record, control) => {
    const runner = runners[record.kind];
    if (!runner) throw new Error(`this server runs no jobs of kind ${record.kind}`);
    return runner(options)(record, control);
  };
}

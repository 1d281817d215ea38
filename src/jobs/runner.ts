/** What a job does, by its kind. */
import type { JobKind } from "../contract/job.ts";
import type { Engine } from "../engine/engine.ts";
import { ForewordError } from "../errors.ts";
import { donorsRunner } from "./donors.ts";
import { evaluateRunner } from "./evaluate.ts";
import type { JobControl, Runner } from "./jobs.ts";
import { searchRunner } from "./search.ts";
import { trainRunner } from "./train.ts";
import type { TrainRunnerOptions } from "./train-work.ts";

const runners: Partial<Record<JobKind, (options: TrainRunnerOptions) => Runner>> = {
  train: trainRunner,
  evaluate: evaluateRunner,
  search: searchRunner,
  donors: donorsRunner,
};

/** How often a job that waits for the backbone looks whether it could not be had. */
const LOOK_MS = 500;

/**
 * Until the backbone is there, or the job is stopped. One that can't be loaded is no job's fault: jobs wait, and go on
 * when the server is started with one that can.
 */
function loaded(engine: Engine, { signal, log }: JobControl): Promise<void> {
  return new Promise((resolve, reject) => {
    const stop = () => reject(signal.reason);
    if (signal.aborted) return stop();
    signal.addEventListener("abort", stop, { once: true });
    let told = "";
    const tell = (why: string) => {
      if (why !== told && !signal.aborted) log(`waits for a backbone: ${why}`);
      told = why;
    };
    // A backbone that can't be fetched is tried again, and again.
    const looking = setInterval(() => {
      const { status, error = "" } = engine.state();
      if (status === "failed") tell(error);
    }, LOOK_MS).unref();
    signal.addEventListener("abort", () => clearInterval(looking), { once: true });
    engine
      .ready()
      .then(
        () => {
          signal.removeEventListener("abort", stop);
          resolve();
        },
        (error: Error) => tell(error.message),
      )
      .finally(() => clearInterval(looking));
  });
}

/** Runs a job where its backbone is loaded; elsewhere it fails, `backbone_mismatch`. */
export function createRunner(options: TrainRunnerOptions): Runner {
  const run: Runner = async (record, control) => {
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
  return Object.assign(run, { ready: (control: JobControl) => loaded(options.engine, control) });
}

/** The runner of donor rankings: the job's result is the table. */
import type { PromptRef } from "../contract/common.ts";
import type { JobResult } from "../contract/job.ts";
import type { Verbalizers } from "../contract/task.ts";
import type { TrainSettingsRequest } from "../contract/train.ts";
import { servedPrecision } from "./contents.ts";
import type { Runner } from "./jobs.ts";
import { fetched } from "./patience.ts";
import { donorsOf, type TrainRunnerOptions } from "./train-work.ts";
import { runTrainer } from "./trainer.ts";

/** A ranking as its record keeps it. */
export interface DonorsJobRequest {
  settings: Pick<TrainSettingsRequest, "method" | "seed">;
  template: string;
  verbalizers: Verbalizers | null;
  /** A blob. */
  examples: string;
  donors: PromptRef[];
  /** What the new prompt would be stacked on, a blob. */
  base: string | null;
}

export const donorsRunner =
  (options: TrainRunnerOptions): Runner =>
  async (record, control): Promise<JobResult> => {
    const { engine, registry } = options;
    const { settings, template, verbalizers, examples, donors, base } = record.request as DonorsJobRequest;
    const job = await fetched({ options, record, control }, async () => {
      const { id, type, labels, description } = await registry.getTask(record.task, record);
      return {
        task: { id, type, labels, description },
        request: settings,
        template,
        verbalizers,
        base: base === null ? null : await registry.getBlob(base),
        examples: await registry.getBlob(examples),
        donors: await donorsOf(registry, donors),
      };
    });
    const { left_out, ...report } = await runTrainer(
      options,
      servedPrecision(engine),
      "donors",
      job,
      control,
    );
    const gone = donors
      .filter(({ task, version }) => !job.donors.some(each => each.task === task && each.version === version))
      .map(each => ({ ...each, reason: "It was deleted before its turn." }));
    return { ...report, left_out: [...gone, ...left_out] };
  };

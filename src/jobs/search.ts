/** The runner of searches: the best of the raced prompts become versions. */
import type { JobResult } from "../contract/job.ts";
import type { Ranked, SearchReport, SearchSettings } from "../contract/search.ts";
import type { Active } from "../contract/task.ts";
import type { Activate } from "../contract/train.ts";
import { hardPrompt } from "../registry/new-prompt.ts";
import type { Runner } from "./jobs.ts";
import { patiently } from "./patience.ts";
import { versionOf } from "./publish.ts";
import { activeOf, dataOf, type TrainRunnerOptions } from "./train-work.ts";
import { runTrainer } from "./trainer.ts";

/** How long a prompt waits for a registry that can't take it. */
const PUBLISH_MS = 600_000;

/** A search as its record keeps it. */
export interface SearchJobRequest {
  settings: SearchSettings;
  template: string;
  /** Blobs, or the share of the examples that validates. */
  examples: string;
  validation: string | number;
  keep: number;
  activate: Activate;
}

export const searchRunner =
  (options: TrainRunnerOptions): Runner =>
  async (record, control): Promise<JobResult> => {
    const { engine, registry } = options;
    await engine.ready();
    const { keep, activate, ...request } = record.request as SearchJobRequest;
    const task = await registry.getTask(record.task);
    const job = {
      ...(await dataOf(registry, task, request)),
      settings: request.settings,
      template: request.template,
      active: await activeOf(registry, task),
    };
    // What serves is what is measured.
    const precision = engine.backbone().precision.active === "int8" ? "int8" : "fp32";
    const { metric, table, bias, validation, better } = await runTrainer(
      options,
      precision,
      "search",
      job,
      control,
    );

    const kept = new Map<number, number>();
    for (const ranked of table.slice(0, keep)) kept.set(ranked.rank, await keepHard(ranked, metric));
    const versions = [...kept.values()];
    const active: Active = { prompt: versions[0]!, ...(bias && { bias }) };
    const wanted = activate === true || (activate === "if_better" && better);
    if (wanted) await registry.setActive(task.id, active, record.id);
    else if (activate === "if_better")
      control.log("the best one is not better beyond chance; what was active stays");
    const report: SearchReport = {
      metric,
      table: table.map(ranked => ({ ...ranked, version: kept.get(ranked.rank) ?? null })),
      active,
    };
    return { versions, validation, activated: wanted, ...report };

    /** A search that was stopped after a prompt was added adds it no second time. */
    async function keepHard(ranked: Omit<Ranked, "version">, by: string): Promise<number> {
      const known = await versionOf(registry, task.id, record.id, ranked.rank);
      if (known) return known.version;
      const { rank, name, source, template, verbalizers, race, validation: score } = ranked;
      const add = async () =>
        registry.addPrompt(task.id, {
          ...(await hardPrompt(engine, template, name)),
          ...(verbalizers && { verbalizers }),
          recipe: { search: source, job: record.id, member: rank },
          metrics: { metric: by, race, validation: score },
        });
      const { version } = await patiently(add, {
        signal: control.signal,
        within: PUBLISH_MS,
        onFailure: error => control.log(`a prompt is found, and not saved yet. ${error.message}`),
      });
      return version;
    }
  };

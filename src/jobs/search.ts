/** The runner of searches: the best of the raced prompts become versions. */
import type { PromptRef } from "../contract/common.ts";
import type { JobResult } from "../contract/job.ts";
import type { Ranked, SearchReport, SearchSettings } from "../contract/search.ts";
import type { Active, Task } from "../contract/task.ts";
import type { Activate } from "../contract/train.ts";
import type { Engine } from "../engine/engine.ts";
import { ForewordError, type ProblemCode } from "../errors.ts";
import { standing } from "../prompt/stack.ts";
import { compileTemplate } from "../prompt/template.ts";
import { verbalize } from "../prompt/verbalizer.ts";
import { withDoubts } from "../registry/doubts.ts";
import { hardPrompt, trainedPrompt } from "../registry/new-prompt.ts";
import { labelsOf } from "../training/check.ts";
import { mainVersions, servedPrecision } from "./contents.ts";
import type { Runner } from "./jobs.ts";
import { fetched } from "./patience.ts";
import { activateOnce, addOnce } from "./publish.ts";
import { activeOf, dataOf, type TrainRunnerOptions } from "./train-work.ts";
import { runTrainer } from "./trainer.ts";

/** A search as its record keeps it. */
export interface SearchJobRequest {
  settings: SearchSettings;
  template: string;
  /** What the active prompt stands on, and so does every candidate: as of a training; earlier versions' records lack it. */
  on?: PromptRef | null;
  base?: string | null;
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
    const work = { options, record, control };
    const { keep, activate, on = null, base = null, ...request } = record.request as SearchJobRequest;
    const { task, job } = await fetched(work, async () => {
      const task = await registry.getTask(record.task, record);
      const job = {
        ...(await dataOf(registry, task, request)),
        base: base === null ? null : await registry.getBlob(base),
        settings: request.settings,
        template: request.template,
        active: await activeOf(registry, engine, task, request.template),
      };
      return { task, job };
    });
    const { metric, table, validation, better, few } = await runTrainer(
      options,
      servedPrecision(engine),
      "search",
      job,
      control,
    );

    const now = await fetched(work, () => registry.getTask(record.task, record));
    const kept = new Map<number, number>();
    for (const ranked of table.slice(0, keep)) {
      const why = await fetched(work, () => unfit(engine, now.labels, ranked));
      if (why === null) kept.set(ranked.rank, await keepHard(ranked, metric));
      else control.log(`${ranked.name} is not kept: the task's labels were changed meanwhile. ${why}`);
    }
    const versions = [...kept.values()];
    const [best] = table;
    const { source, bias, rank } = best!;
    const prompt = kept.get(rank);
    const found: Active | null = prompt === undefined ? null : { prompt, ...(bias && { bias }) };
    // What is active already, and best as it is, keeps all that was fitted to it.
    const active = source === "active" && !bias && task.active!.prompt !== undefined ? task.active! : found;
    const name = "the best one";
    const activated =
      active !== null &&
      (await activateOnce(work, { active, name, activate, better, few, validation, task }));
    const report: SearchReport = {
      metric,
      table: table.map(ranked => ({ ...ranked, version: kept.get(ranked.rank) ?? null })),
      active: active && withDoubts(active, task.active),
    };
    return { versions, validation, activated, ...report };

    /** A search that was stopped after a prompt was added adds it no second time. */
    async function keepHard(ranked: Omit<Ranked, "version">, by: string): Promise<number> {
      const { rank, name, source, template, verbalizers, bias, race, validation: score } = ranked;
      if (source === "active") return mainVersions(task.active!)[0]!;
      const made = standing(template, job.base, engine.backbone().fingerprint);
      const make = async () => ({
        ...(made.parameters
          ? { ...(await trainedPrompt(engine, registry, made.parameters)), name, on }
          : await hardPrompt(engine, template, name)),
        ...(verbalizers && { verbalizers }),
        recipe: { search: source, job: record.id, member: rank },
        metrics: { metric: by, race, validation: score, ...(bias && { bias }) },
      });
      const { version } = await addOnce(work, { member: rank, template }, make, {
        waits: "a prompt that was found can't be saved yet",
        told: "a prompt is found, and not saved yet.",
      });
      return version;
    }
  };

const misfits: readonly ProblemCode[] = ["validation", "duplicate_verbalizer"];

/** Why a prompt can't answer with these labels, or null; what answers already is asked for nothing. */
async function unfit(
  engine: Engine,
  labels: Task["labels"],
  { source, template, verbalizers }: Pick<Ranked, "source" | "template" | "verbalizers">,
): Promise<string | null> {
  if (labels === null || source === "active") return null;
  const known = labelsOf({ labels });
  const unknown = Object.keys(verbalizers ?? {}).find(label => !known.includes(label));
  if (unknown !== undefined)
    return `It has verbalizers for ${JSON.stringify(unknown)}, which is none of them`;
  try {
    await engine.checkLabels(verbalize(labels, compileTemplate(template), verbalizers));
    return null;
  } catch (error) {
    if (error instanceof ForewordError && misfits.includes(error.code)) return error.message;
    throw error;
  }
}

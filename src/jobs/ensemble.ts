/** Several prompts over one backbone, trained one after another, then judged together. */
import type { JobProgress, JobResult } from "../contract/job.ts";
import type { Active } from "../contract/task.ts";
import { ForewordError, orElse } from "../errors.ts";
import { withDoubts } from "../registry/doubts.ts";
import { servedPrecision } from "./contents.ts";
import type { JobControl } from "./jobs.ts";
import { fetched } from "./patience.ts";
import { activateOnce, failed, keepVersion, versionOf } from "./publish.ts";
import { activeOf, dataOf, promptsOf, type TrainJobRequest, type TrainWork, trained } from "./train-work.ts";
import { runTrainer } from "./trainer.ts";

/** A member that became a version before the job was stopped is not trained again. */
export async function trainEnsemble(
  work: TrainWork,
  { members, vote }: NonNullable<TrainJobRequest["ensemble"]>,
): Promise<JobResult> {
  const { options, record, task, control } = work;
  const { registry, engine } = options;
  const request = record.request as TrainJobRequest;
  const versions: number[] = [];
  let done = 0;
  // What the job was stopped with is of the member that goes on; later ones begin.
  let { checkpoint } = record;
  for (const [member, settings] of members.entries()) {
    const known = await fetched(work, () => versionOf(registry, task.id, record.id, { member }));
    if (known) {
      versions.push(known.version);
      continue;
    }
    control.log(`member ${member + 1} of ${members.length}: ${settings.method ?? "prefix"}`);
    const rest = members.length - member;
    const mine = overall(control, rest, () => done);
    const outcome = await trained({ ...work, control: mine }, settings, { member, checkpoint });
    checkpoint = null;
    const { version } = await keepVersion(work, outcome, { member });
    if (outcome.failure) throw failed(outcome.failure, version, outcome.validation);
    done = mine.steps();
    versions.push(version);
  }

  const { now, job, left } = await fetched(work, async () => {
    // What was active when the job began may be gone since, and so may members.
    const now = await registry.getTask(task.id, record);
    const left: number[] = [];
    for (const version of versions)
      if (await registry.getPrompt(task.id, version).catch(orElse(null, "prompt_not_found")))
        left.push(version);
    if (left.length < 2)
      throw new ForewordError(
        "prompt_not_found",
        `Of the versions that were trained (${versions.join(", ")}), ${left.length} are left; an ensemble has two at least. Train again.`,
        { task: task.id },
      );
    const active: Active = { ensemble: left, vote };
    const job = {
      ...(await dataOf(registry, task, request)),
      ensemble: await promptsOf(registry, task.id, active),
      metric: request.settings.metric ?? ("accuracy" as const),
      active: await activeOf(registry, engine, now, request.template),
    };
    return { now, job, left };
  });
  const { active } = job.ensemble;
  const gone = versions.filter(version => !left.includes(version));
  if (gone.length > 0)
    control.log(`deleted meanwhile: version ${gone.join(", ")}; the ensemble is of ${left.join(", ")}`);
  const { validation, better, few, ...report } = await runTrainer(
    options,
    servedPrecision(engine),
    "combine",
    job,
    overall(control, 1, () => done),
  );
  const answering: Active = { ...active, ...(vote === "weighted" && { weights: report.weights }) };
  const activated = await activateOnce(work, {
    active: answering,
    name: "the ensemble",
    activate: request.activate,
    better,
    few,
    validation,
    task: { ...now, labels: task.labels },
  });
  const kept = withDoubts(answering, now.active);
  return { versions: left, ensemble: { ...report, active: kept }, validation, activated };
}

/** The job's progress while a member trains, or all are judged: its own, and as much again for those that follow. */
function overall(
  control: JobControl,
  members: number,
  before: () => number,
): JobControl & { steps: () => number } {
  let steps = before();
  return {
    ...control,
    steps: () => steps,
    progress: (progress: JobProgress) => {
      steps = before() + progress.step;
      const left = progress.eta_seconds;
      const pace = left === null ? null : left / Math.max(1, progress.steps - progress.step);
      control.progress({
        ...progress,
        step: steps,
        steps: before() + progress.steps * members,
        eta_seconds: pace === null ? null : pace * (progress.steps * members - progress.step),
      });
    },
  };
}

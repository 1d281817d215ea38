import { RetrainReply, RetrainRequest } from "../contract/retrain.ts";
import type { Task } from "../contract/task.ts";
import { ForewordError } from "../errors.ts";
import type { Dependencies, Resource } from "./dependencies.ts";
import { Repeatable } from "./headers.ts";
import { idempotent } from "./idempotency.ts";
import { type Planning, retrainings, Skipped } from "./retrain-plan.ts";
import { blobsOf } from "./submit.ts";
import { everyDataset, everyTask } from "./trained.ts";

export const retrain: Resource = (app, dependencies) => {
  const { registry, engine } = dependencies;
  app.post(
    "/retrain",
    {
      schema: {
        tags: ["train"],
        summary: "Train again, on the backbone that is loaded, what is active and belongs to another one",
        description:
          "A job for every task whose recipe and data sets are still there; `skipped` says what becomes of the others.",
        headers: Repeatable,
        body: RetrainRequest,
        response: { 202: RetrainReply },
      },
    },
    (request, reply) =>
      idempotent(registry, request, reply, async () => {
        const { tasks, activate = true, dry_run = false } = request.body;
        const { name, fingerprint } = engine.backbone();
        const chosen = tasks
          ? await Promise.all([...new Set(tasks)].map(id => registry.getTask(id)))
          : await everyTask(registry);
        const datasets = new Map((await everyDataset(registry)).map(({ sha256, id }) => [sha256, id]));
        const busy = await trainingTasks(dependencies, fingerprint);
        const body: RetrainReply = { backbone: { name, fingerprint }, dry_run, jobs: [], skipped: [] };
        for (const task of chosen)
          await add(dependencies, fingerprint, { registry, engine, datasets, activate }, task, busy, body);
        return { status: 202, headers: {}, body };
      }),
  );
};

async function add(
  { jobs }: Dependencies,
  backbone: string,
  planning: Planning,
  task: Task,
  busy: ReadonlySet<string>,
  { jobs: made, skipped, dry_run }: RetrainReply,
): Promise<void> {
  try {
    const planned = await retrainings(planning, task);
    if (busy.has(task.id)) throw new Skipped("under_way", "A training of the task has not ended.");
    for (const { versions, request, changed } of planned) {
      const wanted = {
        task: task.id,
        born: task.created_at,
        kind: "train" as const,
        request,
        backbone,
        blobs: blobsOf(request),
      };
      const job = dry_run ? null : (await jobs.submit(wanted)).id;
      made.push({ task: task.id, versions, job, activates: request.activate === true, changed });
    }
  } catch (error) {
    if (error instanceof Skipped)
      skipped.push({ task: task.id, reason: error.reason, detail: error.message });
    else if (error instanceof ForewordError && error.status < 500)
      skipped.push({ task: task.id, reason: "refused", detail: error.message });
    else throw error;
  }
}

/** Tasks that are being trained on this backbone, or wait for it; for another, a job may wait for ever. */
async function trainingTasks({ registry }: Dependencies, backbone: string): Promise<Set<string>> {
  const open = await Promise.all((await registry.openJobs()).map(({ id }) => registry.getJob(id)));
  const training = open.filter(job => job.kind === "train" && (job.backbone ?? backbone) === backbone);
  return new Set(training.map(({ task }) => task));
}

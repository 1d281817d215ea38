import { IdParams } from "../contract/common.ts";
import { Job } from "../contract/job.ts";
import type { Task } from "../contract/task.ts";
import { DonorsRequest } from "../contract/transfer.ts";
import { ForewordError } from "../errors.ts";
import type { DonorsJobRequest } from "../jobs/donors.ts";
import { withoutBlank } from "../prompt/verbalizer.ts";
import { checkClasses } from "../training/data.ts";
import type { Dependencies, Resource } from "./dependencies.ts";
import { Repeatable } from "./headers.ts";
import { inField } from "./problems.ts";
import { baseUnder } from "./stack.ts";
import { submitJob } from "./submit.ts";
import { chosenData, dataFor } from "./task-data.ts";
import { checkSettings, startTemplate } from "./train-request.ts";
import { donorsFor } from "./trained.ts";

export const donors: Resource = (app, dependencies) => {
  app.post(
    "/tasks/:id/donors",
    {
      schema: {
        tags: ["transfer"],
        summary: "Rank other tasks' prompts as starts of this task's training; the job's result is the table",
        params: IdParams,
        headers: Repeatable,
        body: DonorsRequest,
        response: { 202: Job },
      },
    },
    (request, reply) =>
      submitJob(dependencies, request, reply, "donors", task => jobRequest(dependencies, task, request.body)),
  );
};

/** Throws what would fail the job later. */
async function jobRequest(
  { registry, engine }: Pick<Dependencies, "registry" | "engine">,
  task: Task,
  { examples, dataset, candidates, template: given, ...rest }: DonorsRequest,
): Promise<DonorsJobRequest> {
  const settings = {
    ...rest,
    ...(given !== undefined && { template: withoutBlank(given, task.labels) }),
  };
  const data = chosenData({ ...(examples && { examples }), ...(dataset !== undefined && { dataset }) });
  const { template, parent, verbalizers } = await startTemplate(registry, task, settings.template);
  const base = parent && (await baseUnder(registry, engine, parent));
  await checkSettings(registry, engine, task, template, settings, base);
  for (const [index, prompt] of (candidates ?? []).entries()) {
    const field = `candidates[${index}]`;
    const twice = candidates!.findIndex(each => each.task === prompt.task && each.version === prompt.version);
    if (twice < index)
      throw new ForewordError("validation", `${field}: it is candidates[${twice}] too. Send it once.`, {
        field,
      });
    await inField(field, () =>
      checkSettings(registry, engine, task, template, { ...settings, init: { prompt } }, base),
    );
  }
  const donors = candidates ?? (await donorsFor(registry, engine, task.id, settings.method ?? "prefix"));
  const { blob, labels } = await dataFor(registry, task, [template], data, "examples");
  if (task.type === "classification") checkClasses(labels);
  return {
    settings,
    template,
    verbalizers,
    examples: blob,
    donors,
    base: base && (await registry.putBlob(base.file)),
  };
}

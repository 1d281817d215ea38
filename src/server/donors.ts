import type { Task } from "../contract/task.ts";
import { DonorsRequest } from "../contract/transfer.ts";
import { invalid } from "../errors.ts";
import type { DonorsJobRequest } from "../jobs/donors.ts";
import { withoutBlank } from "../prompt/verbalizer.ts";
import { checkClasses } from "../training/data.ts";
import type { Dependencies, Resource } from "./dependencies.ts";
import { inField } from "./problems.ts";
import { baseUnder } from "./stack.ts";
import { jobRoute } from "./submit.ts";
import { chosenData, dataFor } from "./task-data.ts";
import { checkSettings, startTemplate } from "./train-request.ts";
import { donorsFor } from "./trained.ts";

export const donors: Resource = (app, dependencies) => {
  jobRoute(
    app,
    dependencies,
    {
      kind: "donors",
      tag: "transfer",
      summary: "Rank other tasks' prompts as starts of this task's training; the job's result is the table",
      body: DonorsRequest,
    },
    (task, body) => jobRequest(dependencies, task, body),
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
    if (twice < index) throw invalid(field, `it is candidates[${twice}] too. Send it once.`);
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

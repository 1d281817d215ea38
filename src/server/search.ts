import { type GivenCandidate, SearchRequest } from "../contract/search.ts";
import type { Task } from "../contract/task.ts";
import type { Engine } from "../engine/engine.ts";
import { ForewordError } from "../errors.ts";
import type { SearchJobRequest } from "../jobs/search.ts";
import { sameFields } from "../prompt/fields.ts";
import { compileTemplate, hasSlots } from "../prompt/template.ts";
import { withoutBlank } from "../prompt/verbalizer.ts";
import type { Registry } from "../registry/registry.ts";
import { checkMetric } from "../training/check.ts";
import { checkClasses } from "../training/data.ts";
import type { Resource } from "./dependencies.ts";
import { inField } from "./problems.ts";
import { baseUnder, lengthOf } from "./stack.ts";
import { jobRoute } from "./submit.ts";
import { chosenData, dataFor, validationFor } from "./task-data.ts";
import { startTemplate } from "./train-request.ts";
import { checkVerbalizers } from "./verbalizers.ts";

/** The share of the examples that validates by default: the last choice is made on it. */
const VALIDATION = 0.3;

export const search: Resource = (app, dependencies) => {
  const { registry, engine } = dependencies;
  jobRoute(
    app,
    dependencies,
    {
      kind: "search",
      tag: "search",
      summary: "Look for the best hard prompt; the job's result is a ranked table",
      body: SearchRequest,
    },
    (task, body) => jobRequest(registry, engine, task, body),
  );
};

async function checkCandidate(
  engine: Engine,
  task: Task,
  fields: readonly string[],
  candidate: GivenCandidate,
): Promise<void> {
  const compiled = compileTemplate(candidate.template);
  const refuse = (why: string): never => {
    throw new ForewordError("validation", why);
  };
  if (hasSlots(compiled)) refuse("a search is for hard prompts; leave soft slots out.");
  if (!sameFields(compiled.fields, fields))
    refuse(`its fields are ${compiled.fields.join(", ")}, the task's ${fields.join(", ")}. Use the same.`);
  await checkVerbalizers(engine, task, candidate);
}

/** Throws what would fail the job later. */
async function jobRequest(
  registry: Registry,
  engine: Engine,
  task: Task,
  { examples, dataset, validation = VALIDATION, keep = 1, activate = false, ...settings }: SearchRequest,
): Promise<SearchJobRequest> {
  const data = chosenData({ ...(examples && { examples }), ...(dataset !== undefined && { dataset }) });
  checkMetric(settings.metric, task);
  const { template, parent } = await startTemplate(registry, task, undefined);
  const base = parent && (await baseUnder(registry, engine, parent));
  if (base) await lengthOf(engine, base.file);
  const { fields } = compileTemplate(template);
  const candidates = settings.candidates?.map(each => ({
    ...each,
    template: withoutBlank(each.template, each.verbalizers ? null : task.labels),
  }));
  for (const [index, candidate] of (candidates ?? []).entries())
    await inField(`candidates[${index}]`, () => checkCandidate(engine, task, fields, candidate));
  const { blob, labels } = await dataFor(registry, task, [template], data, "examples");
  if (task.type === "classification") checkClasses(labels);
  return {
    settings: { ...settings, ...(candidates && { candidates }) },
    template,
    on: base?.on ?? null,
    base: base && (await registry.putBlob(base.file)),
    keep,
    activate,
    examples: blob,
    validation: await validationFor(registry, task, template, validation),
  };
}

import { Type } from "typebox";
import { Id } from "../contract/common.ts";
import { Job } from "../contract/job.ts";
import { SearchRequest } from "../contract/search.ts";
import type { Task } from "../contract/task.ts";
import type { Engine } from "../engine/engine.ts";
import { ForewordError } from "../errors.ts";
import type { SearchJobRequest } from "../jobs/search.ts";
import { compileTemplate } from "../prompt/template.ts";
import { verbalize } from "../prompt/verbalizer.ts";
import type { Registry } from "../registry/registry.ts";
import { checkMetric } from "../training/check.ts";
import { checkClasses } from "../training/data.ts";
import type { Resource } from "./dependencies.ts";
import { idempotent } from "./idempotency.ts";
import { jobView } from "./jobs.ts";
import { chosenData, dataFor } from "./task-data.ts";
import { startTemplate } from "./train-request.ts";

/** The share of the examples that validates where nothing is said: the last choice is made on it. */
const VALIDATION = 0.3;

const Params = Type.Object({ id: Id });

export const search: Resource = (app, { registry, engine, jobs }) => {
  app.post(
    "/tasks/:id/search",
    {
      schema: {
        tags: ["search"],
        summary: "Look for the best hard prompt; the job's result is a ranked table",
        params: Params,
        body: SearchRequest,
        response: { 202: Job },
      },
    },
    (request, reply) =>
      idempotent(registry, request, reply, async () => {
        const task = await registry.getTask(request.params.id);
        const wanted = await jobRequest(registry, engine, task, request.body);
        const blobs = [wanted.examples, wanted.validation].filter(blob => typeof blob === "string");
        const job = await jobs.submit({ task: task.id, kind: "search", request: wanted, blobs });
        return { status: 202, headers: { Location: `/jobs/${job.id}` }, body: jobView(job) };
      }),
  );
};

/** Throws what would fail the job later. */
async function jobRequest(
  registry: Registry,
  engine: Engine,
  task: Task,
  { examples, dataset, validation = VALIDATION, keep = 1, activate = false, ...settings }: SearchRequest,
): Promise<SearchJobRequest> {
  const data = chosenData({ ...(examples && { examples }), ...(dataset !== undefined && { dataset }) });
  checkMetric(settings.metric, task);
  const { template } = await startTemplate(registry, task, undefined);
  const { fields } = compileTemplate(template);
  for (const [index, candidate] of (settings.candidates ?? []).entries()) {
    const field = `candidates[${index}]`;
    const compiled = compileTemplate(candidate.template);
    const refuse = (why: string): never => {
      throw new ForewordError("validation", `${field}: ${why}`, { field });
    };
    if (compiled.pieces.some(piece => piece.kind === "soft"))
      refuse("a search is for hard prompts; leave soft slots out.");
    if ([...compiled.fields].sort().join() !== [...fields].sort().join())
      refuse(`its fields are ${compiled.fields.join(", ")}, the task's ${fields.join(", ")}. Use the same.`);
    if (candidate.verbalizers && !task.labels) refuse("verbalizers are for classification. Leave them out.");
    if (task.labels) await engine.checkLabels(verbalize(task.labels, compiled, candidate.verbalizers));
  }
  const { blob, labels } = await dataFor(registry, task, [template], data, "examples");
  if (task.type === "classification") checkClasses(labels);
  return {
    settings,
    template,
    keep,
    activate,
    examples: blob,
    validation:
      typeof validation === "number"
        ? validation
        : (await dataFor(registry, task, [template], validation, "validation")).blob,
  };
}

import { EvaluateRequest } from "../contract/evaluate.ts";
import type { Contender, Task } from "../contract/task.ts";
import type { Engine } from "../engine/engine.ts";
import { promised } from "../engine/json-schema.ts";
import { ForewordError, invalid } from "../errors.ts";
import { mainVersions } from "../jobs/contents.ts";
import { type Contending, type EvaluateJobRequest, nameOf } from "../jobs/evaluate.ts";
import type { Registry } from "../registry/registry.ts";
import { misfit } from "../training/evaluation/cases.ts";
import { refused } from "../training/examples.ts";
import { checkRequest } from "./answer.ts";
import type { Resource } from "./dependencies.ts";
import { jobRoute } from "./submit.ts";
import { chosenData, dataFor } from "./task-data.ts";
import { checkCompatible } from "./views.ts";

export const evaluate: Resource = (app, dependencies) => {
  const { registry, engine } = dependencies;
  jobRoute(
    app,
    dependencies,
    {
      kind: "evaluate",
      tag: "evaluate",
      summary: "Judge prompts on the same examples; the job's result is the report",
      body: EvaluateRequest,
    },
    (task, body) => jobRequest(registry, engine, task, body),
  );
};

/** Throws what would fail the job later. */
async function jobRequest(
  registry: Registry,
  engine: Engine,
  task: Task,
  { prompts, examples, dataset, ...settings }: EvaluateRequest,
): Promise<EvaluateJobRequest> {
  const data = chosenData({ ...(examples && { examples }), ...(dataset !== undefined && { dataset }) });
  const contenders = prompts?.map(prompt => contender(task, prompt)) ?? [activeContender(task)];
  const { calibrate = false, max_tokens, json_schema } = settings;
  refuse(calibrate !== false && task.type !== "classification", "calibrate", "it is for classification.");
  refuse(
    max_tokens !== undefined && task.type === "classification",
    "max_tokens",
    "it is for generated texts.",
  );
  refuse(
    json_schema !== undefined && task.type === "classification",
    "json_schema",
    "it is for generated texts.",
  );
  if (json_schema) promised(json_schema);
  refuse(
    calibrate === "store" && prompts !== undefined,
    "calibrate",
    "only what is active can store a temperature. Leave prompts out, or use true.",
  );
  refuse(
    calibrate === "store" && task.active?.split !== undefined,
    "calibrate",
    "one version's temperature would be put on every part of the split. Name one version (prompts) and use true, or activate it alone.",
  );
  const names = contenders.map(nameOf);
  const twice = names.find((name, index) => names.indexOf(name) < index);
  refuse(twice !== undefined, "prompts", `${twice} is there twice.`);
  const inline = typeof data !== "string" && { examples: data, lines: data.map((_, index) => index + 1) };
  for (const [index, { prompt, active }] of contenders.entries()) {
    // A weighted vote without weights gets those that the examples fit.
    const fits = typeof prompt === "object" && prompt.vote === "weighted" && !prompt.weights;
    checkRequest(task, { prompt: fits ? { ensemble: prompt.ensemble } : prompt });
    const records = await Promise.all(mainVersions(active).map(each => registry.getPrompt(task.id, each)));
    for (const record of records) checkCompatible(record, engine);
    // Over a data set the job looks, before it judges.
    const problem = inline ? misfit(names[index]!, records, inline) : null;
    if (problem) throw refused([problem], "examples");
  }
  const { blob } = await dataFor(registry, task, [], data, "examples");
  return {
    contenders,
    settings,
    examples: blob,
    stores: calibrate === "store" ? task.active_revision : null,
  };
}

/** Versions by themselves; what is active as it answers, so that both can be compared. */
function contender(task: Task, prompt: Contender | "active"): Contending {
  if (prompt === "active") return { name: prompt, ...activeContender(task) };
  return { prompt, active: typeof prompt === "number" ? { prompt } : prompt };
}

/** What answers now, with its fitted numbers; of a split, the part that most requests come to. */
function activeContender({ id, active }: Task): Contending {
  if (!active)
    throw new ForewordError(
      "no_active_prompt",
      `Task ${id} has no active prompt. Name what is to be evaluated (prompts), or activate a prompt.`,
    );
  const { ensemble, vote, weights } = active;
  if (!ensemble) return { prompt: mainVersions(active)[0]!, active };
  return { prompt: { ensemble, ...(vote && { vote }), ...(weights && { weights }) }, active };
}

function refuse(wrong: boolean, field: string, why: string): void {
  if (wrong) throw invalid(field, why);
}

import { Type } from "typebox";
import { IdParams, Page, PageQuery } from "../contract/common.ts";
import type { PromptRecord } from "../contract/prompt.ts";
import { Activation, Active, ShadowReport, type Task } from "../contract/task.ts";
import { invalid } from "../errors.ts";
import { sameFields } from "../prompt/fields.ts";
import { compileTemplate } from "../prompt/template.ts";
import type { Registry } from "../registry/registry.ts";
import { labelsOf } from "../training/check.ts";
import type { Resource } from "./dependencies.ts";
import { actor, Conditional, etag, expectedRevision } from "./headers.ts";
import { answering, checkVote } from "./routing.ts";
import { requireCompatible } from "./views.ts";

const View = Type.Object({ active: Type.Union([Active, Type.Null()]), revision: Type.Integer() });

export const active: Resource = (app, { config, engine, registry, shadows }) => {
  app.get(
    "/tasks/:id/active",
    { schema: { tags: ["active"], summary: "What answers", params: IdParams, response: { 200: View } } },
    async (request, reply) => {
      const task = await registry.getTask(request.params.id);
      return etag(reply, task.active_revision).send({ active: task.active, revision: task.active_revision });
    },
  );

  app.put(
    "/tasks/:id/active",
    {
      schema: {
        tags: ["active"],
        summary: "Choose what answers; a record of the history rolls back",
        params: IdParams,
        headers: Conditional,
        body: Active,
        response: { 200: View },
      },
    },
    async (request, reply) => {
      const task = await registry.getTask(request.params.id);
      checkActive(request.body, task);
      const records = await recordsOf(registry, task.id, request.body);
      for (const record of records) requireCompatible(record, engine);
      checkFields(records);
      const { active, active_revision } = await registry.setActive(
        task.id,
        request.body,
        actor(config),
        expectedRevision(request),
      );
      return etag(reply, active_revision).send({ active, revision: active_revision });
    },
  );

  app.get(
    "/tasks/:id/shadow",
    {
      schema: {
        tags: ["active"],
        summary: "How often the shadow agrees with what answers, as this server has counted",
        params: IdParams,
        response: { 200: ShadowReport },
      },
    },
    async request => shadows.report(await registry.getTask(request.params.id)),
  );

  app.get(
    "/tasks/:id/history",
    {
      schema: {
        tags: ["active"],
        summary: "Who activated what, and when",
        params: IdParams,
        querystring: PageQuery,
        response: { 200: Page(Activation) },
      },
    },
    request => registry.listHistory(request.params.id, request.query),
  );
};

/** The records of all versions that may answer, the shadow too. */
function recordsOf(registry: Registry, task: string, active: Active): Promise<PromptRecord[]> {
  const versions = [...answering(active), ...(active.shadow ? [active.shadow.prompt] : [])];
  return Promise.all(versions.map(version => registry.getPrompt(task, version)));
}

/** Whatever input comes, all that may answer it must take it; a text fills one field, whatever its name. */
function checkFields(records: readonly PromptRecord[]): void {
  const [first, ...others] = records.map(({ version, template }) => ({
    version,
    fields: compileTemplate(template).fields,
  }));
  const odd = others.find(
    ({ fields }) =>
      !sameFields(fields, first!.fields) && !(fields.length === 1 && first!.fields.length === 1),
  );
  if (odd)
    throw invalid(
      "prompt",
      `version ${odd.version} has the fields ${odd.fields.join(", ")}, version ${first!.version} has ${first!.fields.join(", ")}. Choose prompts that take the same inputs.`,
    );
}

/** Those for whose scores the record has a bias, and which are not among the labels. */
export function strangers({ bias = {} }: Pick<Active, "bias">, task: Pick<Task, "labels">): string[] {
  const names = labelsOf(task);
  return Object.keys(bias).filter(label => !names.includes(label));
}

function checkActive(active: Active, { type, labels }: Task): void {
  const refuse = (field: string, why: string): never => {
    throw invalid(field, why);
  };
  const chosen = [active.prompt, active.ensemble, active.split].filter(way => way !== undefined).length;
  if (chosen !== 1) refuse("prompt", `send exactly one of prompt, ensemble and split; ${chosen} were sent.`);
  if (active.ensemble === undefined && (active.vote ?? active.weights) !== undefined)
    refuse("vote", "only an ensemble votes. Leave vote and weights out.");
  if (active.ensemble === undefined && active.agreement_below !== undefined)
    refuse("agreement_below", "only an ensemble has members that agree. Leave it out.");
  if (active.ensemble) checkVote({ ...active, ensemble: active.ensemble });
  if (active.split?.every(part => part.weight === 0)) refuse("split", "at least one weight must be above 0.");
  const twice = active.split?.find(
    ({ prompt }, at, all) => all.findIndex(other => other.prompt === prompt) < at,
  );
  if (twice) refuse("split", `version ${twice.prompt} is named twice. Give it one weight.`);
  if (active.shadow && active.shadow.prompt === active.prompt)
    refuse(
      "shadow.prompt",
      `version ${active.prompt} answers already. Name another one, or leave shadow out.`,
    );
  const [unknown] = strangers(active, { labels });
  if (type === "classification" && unknown !== undefined)
    refuse("bias", `${unknown} is not one of the task's labels.`);
  if (type === "generation") {
    for (const field of ["ensemble", "temperature", "bias", "unsure_below", "agreement_below"] as const) {
      if (active[field] !== undefined)
        refuse(field, "is for classification; this task generates text. Leave it out.");
    }
  }
}

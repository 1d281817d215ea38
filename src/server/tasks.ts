import { Type } from "typebox";
import { Id, IdParams, Page, PageQuery } from "../contract/common.ts";
import { Example } from "../contract/dataset.ts";
import { Labels, MOST_LABELS, Task, TaskPatch, TaskType } from "../contract/task.ts";
import { invalid, orElse } from "../errors.ts";
import { chatField, fillFields } from "../prompt/fields.ts";
import { compileTemplate } from "../prompt/template.ts";
import { verbalize, withoutBlank } from "../prompt/verbalizer.ts";
import { hardPrompt } from "../registry/new-prompt.ts";
import { taskNotFound } from "../registry/problems.ts";
import { labelsOf } from "../training/check.ts";
import { headingFor, lines } from "../training/search/candidates.ts";
import { strangers } from "./active.ts";
import type { Resource } from "./dependencies.ts";
import { actor, Conditional, etag, expectedRevision, Repeatable } from "./headers.ts";
import { idempotent } from "./idempotency.ts";
import { inField } from "./problems.ts";
import { promptsOf } from "./trained.ts";

/** Version 1 of a task that was given no prompt. */
export const plainPattern = {
  classification: "Text: {{ input }}\nLabel:",
  generation: "Input: {{ input }}\nOutput:",
} as const;

/** The same for inputs of several fields, or of one with another name, as the first example has them. */
function patternOf(type: Task["type"], [example]: NewTask["examples"] & object): string {
  if (example === undefined || typeof example.input === "string") return plainPattern[type];
  const fields = Object.keys(example.input);
  if (fields.length === 1 && fields[0] === chatField) return `{{ ${chatField} }}`;
  return `${lines(fields)}\n${headingFor(type)}:`;
}

const NewTask = Type.Object(
  {
    id: Id,
    type: Type.Optional(
      Type.With(TaskType, { description: "By default what the labels, or the examples, make it." }),
    ),
    labels: Type.Optional(
      Type.With(Labels, {
        description:
          "Of a classification, by default those of its examples: names alone, from which the texts that stand for them follow, or each label with its text, or texts, spelled out.",
      }),
    ),
    description: Type.Optional(Type.String({ maxLength: 10_000 })),
    prompt: Type.Optional(
      Type.Object(
        {
          kind: Type.Optional(Type.Enum(["hard"])),
          template: Type.String({ minLength: 1, description: "Words, with fields such as {{ input }}." }),
          name: Type.Optional(Type.String({ maxLength: 256 })),
        },
        {
          additionalProperties: false,
          description: "Version 1, which answers at once; by default a plain pattern of the inputs' fields.",
        },
      ),
    ),
    examples: Type.Optional(
      Type.Array(Example, {
        minItems: 1,
        maxItems: 10_000,
        description: "They decide type and labels; they do not go into the prompt.",
      }),
    ),
  },
  {
    additionalProperties: false,
    examples: [
      {
        id: "ticket",
        labels: ["billing", "technical"],
        prompt: { template: "Message: {{ input }}\nTeam:" },
      },
    ],
  },
);
type NewTask = Type.Static<typeof NewTask>;

const Created = Type.Object({
  ...Task.properties,
  reason: Type.Optional(
    Type.String({ description: "Why this type and these labels, where examples decided." }),
  ),
});

export const tasks: Resource = (app, { config, registry, engine, jobs }) => {
  app.post(
    "/tasks",
    {
      schema: {
        tags: ["tasks"],
        summary: "Register a task with its first prompt",
        headers: Repeatable,
        body: NewTask,
        response: { 201: Created },
      },
    },
    (request, reply) =>
      idempotent(registry, request, reply, async commit => {
        const { id, description = "", prompt } = request.body;
        const { type, labels, reason } = settle(request.body);
        const { examples = [] } = request.body;
        const template = withoutBlank(prompt?.template ?? patternOf(type, examples), labels);
        const made = () => hardPrompt(engine, template, prompt?.name ?? null);
        // A pattern that is made here is about the examples' fields.
        const first = await (prompt ? made() : inField("examples", made));
        const compiled = compileTemplate(template);
        for (const [index, { input }] of examples.entries())
          await inField(`examples[${index}].input`, async () => fillFields(compiled, input));
        if (labels) await engine.checkLabels(verbalize(labels, compiled));
        const wanted = { id, type, labels, description };
        const task = await registry.createTask(wanted, first, actor(config), undefined, { commit });
        return {
          status: 201,
          headers: { Location: `/tasks/${id}`, ETag: `"${task.revision}"` },
          body: { ...task, ...(reason && { reason }) },
        };
      }),
  );

  app.get(
    "/tasks",
    {
      schema: {
        tags: ["tasks"],
        summary: "List tasks",
        querystring: PageQuery,
        response: { 200: Page(Task) },
      },
    },
    request => registry.listTasks(request.query),
  );

  app.get(
    "/tasks/:id",
    { schema: { tags: ["tasks"], summary: "One task", params: IdParams, response: { 200: Task } } },
    async (request, reply) => {
      const task = await registry.getTask(request.params.id);
      return etag(reply, task.revision).send(task);
    },
  );

  app.patch(
    "/tasks/:id",
    {
      schema: {
        tags: ["tasks"],
        summary: "Change a task's description or labels",
        params: IdParams,
        headers: Conditional,
        body: TaskPatch,
        response: { 200: Task },
      },
    },
    async (request, reply) => {
      const { labels } = request.body;
      if (labels) {
        const task = await registry.getTask(request.params.id);
        if (task.type === "generation")
          throw invalid("labels", "a generation task has none. Leave them out.");
        for (const { template, verbalizers } of await promptsOf(registry, task.id))
          await engine.checkLabels(verbalize(labels, compileTemplate(template), verbalizers));
        const [stranger] = strangers(task.active ?? {}, { labels });
        if (stranger !== undefined)
          throw invalid(
            "labels",
            `what is active has a bias for ${stranger}, which would be none of them. Send PUT /tasks/${task.id}/active without that bias first.`,
          );
      }
      const task = await registry.patchTask(request.params.id, request.body, expectedRevision(request));
      return etag(reply, task.revision).send(task);
    },
  );

  app.delete(
    "/tasks/:id",
    {
      schema: {
        tags: ["tasks"],
        summary: "Delete a task with its prompts and history",
        params: IdParams,
        headers: Conditional,
        response: { 204: Type.Null() },
      },
    },
    async (request, reply) => {
      const { id } = request.params;
      const deleted = await registry
        .deleteTask(id, expectedRevision(request))
        .then(() => true, orElse(false, "task_not_found"));
      // A call that deleted it and was not confirmed has left its jobs to the next one.
      await jobs.cancelTask(id);
      if (!deleted) throw taskNotFound(id);
      return reply.code(204).send(null);
    },
  );
};

/** The type and the labels, from the request or from its examples. */
function settle({ type, labels, examples = [] }: NewTask): {
  type: Task["type"];
  labels: Labels | null;
  reason?: string;
} {
  const named = [...new Set(examples.flatMap(example => ("label" in example ? [example.label] : [])))];
  if (named.length > MOST_LABELS)
    throw invalid(
      "examples",
      `they have ${named.length} labels, a task has at most ${MOST_LABELS}. If they are texts to write, call them output.`,
    );
  const outputs = examples.filter(example => "output" in example).length;
  if (type === "generation" || (type === undefined && !labels && outputs > 0 && named.length === 0)) {
    if (labels)
      throw invalid("labels", "a generation task has none. Leave them out, or make it a classification.");
    if (named.length > 0)
      throw invalid(
        "examples",
        `${examples.length - outputs} of ${examples.length} have a label, which a generation has not. Give each an output.`,
      );
    return {
      type: "generation",
      labels: null,
      ...(type === undefined && {
        reason: `generation: all ${outputs} examples have an output, none a label`,
      }),
    };
  }
  if (type === undefined && !labels && named.length === 0) {
    throw invalid(
      "type",
      "say classification or generation, or send examples with label or output to decide it.",
    );
  }
  if (outputs > 0)
    throw invalid(
      "examples",
      `${outputs} of ${examples.length} have an output, which a classification has not. Give each a label.`,
    );
  if (labels) {
    const known = labelsOf({ labels });
    const unknown = named.filter(name => !known.includes(name));
    if (unknown.length > 0)
      throw invalid("examples", `the labels ${unknown.join(", ")} are not among the task's labels.`);
    return {
      type: "classification",
      labels,
      ...(type === undefined && { reason: "classification: it has labels" }),
    };
  }
  if (named.length < 2)
    throw invalid(
      "labels",
      `a classification needs two or more; ${named.length === 1 ? `the examples have only ${named[0]}` : "none were sent"}.`,
    );
  return {
    type: "classification",
    labels: named,
    reason: `classification: the ${examples.length} examples have ${named.length} labels: ${named.join(", ")}`,
  };
}

import { Type } from "typebox";
import { Id } from "../contract/common.ts";
import type { Example } from "../contract/dataset.ts";
import { Job } from "../contract/job.ts";
import type { Task } from "../contract/task.ts";
import { TrainRequest } from "../contract/train.ts";
import { ForewordError } from "../errors.ts";
import type { TrainJobRequest } from "../jobs/train.ts";
import { fillFields } from "../prompt/fields.ts";
import { compileTemplate } from "../prompt/template.ts";
import type { Registry } from "../registry/registry.ts";
import { type LineProblem, refused, writeExamples } from "../training/examples.ts";
import type { Resource } from "./dependencies.ts";
import { idempotent } from "./idempotency.ts";
import { jobView } from "./jobs.ts";

/** The share of the examples that validates where nothing is said. */
const VALIDATION = 0.1;

const Params = Type.Object({ id: Id });

export const train: Resource = (app, { registry, jobs }) => {
  app.post(
    "/tasks/:id/train",
    {
      schema: {
        tags: ["train"],
        summary: "Train a prefix or a soft prompt; the backbone and every word stay as they are",
        params: Params,
        body: TrainRequest,
        response: { 202: Job },
      },
      preValidation: async request => refuseHard(request.body),
    },
    (request, reply) =>
      idempotent(registry, request, reply, async () => {
        const task = await registry.getTask(request.params.id);
        const wanted = await jobRequest(registry, task, request.body);
        const blobs = [wanted.examples, wanted.validation].filter(blob => typeof blob === "string");
        const job = await jobs.submit({ task: task.id, kind: "train", request: wanted, blobs });
        return { status: 202, headers: { Location: `/jobs/${job.id}` }, body: jobView(job) };
      }),
  );
};

function refuseHard(body: unknown): void {
  if ((body as { method?: unknown } | null)?.method !== "hard") return;
  throw new ForewordError(
    "hard_prompt_not_trainable",
    'A hard prompt is text: its words never change, so there is nothing to train. Use method "prefix" or "soft", which can start from its words.',
    { field: "method" },
  );
}

async function jobRequest(registry: Registry, task: Task, body: TrainRequest): Promise<TrainJobRequest> {
  const { examples, dataset, validation = VALIDATION, activate = false, ...settings } = body;
  if ((examples === undefined) === (dataset === undefined))
    throw new ForewordError("validation", "examples: send exactly one of examples and dataset.", {
      field: "examples",
    });
  const { template, parent } = await startTemplate(registry, task, body.template);
  checkSettings(task, settings);
  return {
    settings,
    template,
    parent,
    activate,
    examples: await blobOf(registry, task, template, examples ?? dataset!, "examples"),
    validation:
      typeof validation === "number"
        ? validation
        : await blobOf(registry, task, template, validation, "validation"),
  };
}

/** The template that training starts from: the request's, or the words of what answers now. */
async function startTemplate(
  registry: Registry,
  { id, active }: Task,
  given: string | undefined,
): Promise<Pick<TrainJobRequest, "template" | "parent">> {
  if (given !== undefined) {
    compileTemplate(given);
    return { template: given, parent: null };
  }
  const version = active?.prompt ?? active?.ensemble?.[0] ?? active?.split?.[0]?.prompt;
  if (version === undefined)
    throw new ForewordError(
      "no_active_prompt",
      `Task ${id} has no active prompt to start from. Send a template, or activate a prompt.`,
    );
  const { template, recipe } = await registry.getPrompt(id, version);
  const before = (recipe as { template?: unknown } | null)?.template;
  return {
    template: typeof before === "string" ? before : template,
    parent: { task: id, version },
  };
}

function checkSettings(task: Task, { class_weights, label_smoothing }: Partial<TrainRequest>): void {
  if (task.type === "generation") {
    const field = class_weights ? "class_weights" : label_smoothing ? "label_smoothing" : null;
    if (field)
      throw new ForewordError("validation", `${field} is for classification. Leave it out.`, { field });
    return;
  }
  if (typeof class_weights !== "object") return;
  const known = new Set(labelsOf(task));
  const unknown = Object.keys(class_weights).find(label => !known.has(label));
  if (unknown !== undefined)
    throw new ForewordError(
      "validation",
      `class_weights: the task has no label ${JSON.stringify(unknown)}. Use its labels: ${[...known].join(", ")}.`,
      { field: "class_weights" },
    );
}

const labelsOf = ({ labels }: Task): string[] =>
  labels === null ? [] : Array.isArray(labels) ? labels : Object.keys(labels);

/** A data set's blob, or that of examples which are kept now. Throws `bad_dataset` where they don't suit the task. */
async function blobOf(
  registry: Registry,
  task: Task,
  template: string,
  data: readonly Example[] | string,
  field: string,
): Promise<string> {
  if (typeof data === "string") {
    const { sha256, labels } = await registry.getDataset(data);
    checkKind(task, labels !== null, field);
    const unknown = Object.keys(labels ?? {}).find(label => !labelsOf(task).includes(label));
    if (unknown !== undefined) throw unknownLabel(task, unknown, `${field}: data set ${data}`);
    return sha256;
  }
  const problems: LineProblem[] = [];
  const compiled = compileTemplate(template);
  const known = new Set(labelsOf(task));
  for (const [index, example] of data.entries()) {
    checkKind(task, "label" in example, field);
    try {
      if ("label" in example && !known.has(example.label)) throw unknownLabel(task, example.label, field);
      fillFields(compiled, example.input);
    } catch (error) {
      problems.push({ line: index + 1, detail: (error as Error).message });
    }
  }
  if (problems.length > 0) throw refused(problems);
  return registry.putBlob(writeExamples(data));
}

function checkKind({ id, type }: Task, labelled: boolean, field: string): void {
  if (labelled === (type === "classification")) return;
  throw new ForewordError(
    "bad_dataset",
    `${field}: task ${id} is a ${type} task; its examples have ${labelled ? "an output" : "a label"}, not ${labelled ? "a label" : "an output"}.`,
    { field },
  );
}

const unknownLabel = (task: Task, label: string, where: string): ForewordError =>
  new ForewordError(
    "bad_dataset",
    `${where}: the label ${JSON.stringify(label)} is none of the task's. Use one of: ${labelsOf(task).join(", ")}; or add it with PATCH /tasks/${task.id}.`,
    { label },
  );

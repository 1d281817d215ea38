/** A training request, checked against its task, its data and the backbone: what a job keeps of it. */
import type { Example } from "../contract/dataset.ts";
import type { Task } from "../contract/task.ts";
import type { TrainMethod, TrainRequest, TrainSettingsRequest } from "../contract/train.ts";
import type { Engine } from "../engine/engine.ts";
import { ForewordError } from "../errors.ts";
import type { TrainJobRequest } from "../jobs/train.ts";
import { fillFields } from "../prompt/fields.ts";
import { readPromptFile } from "../prompt/file.ts";
import { compileTemplate } from "../prompt/template.ts";
import type { Registry } from "../registry/registry.ts";
import { checkPositions, checkRequest, knownPositions, labelsOf } from "../training/check.ts";
import { checkClasses } from "../training/data.ts";
import { type LineProblem, refused, writeExamples } from "../training/examples.ts";

/** The share of the examples that validates where nothing is said. */
const VALIDATION = 0.1;

/** Throws what would fail the job later: `validation`, `bad_dataset`, what names nothing, what no backbone can hold. */
export async function jobRequest(
  registry: Registry,
  engine: Engine,
  task: Task,
  body: TrainRequest,
): Promise<TrainJobRequest> {
  const { examples, dataset, validation = VALIDATION, activate = false, ...settings } = body;
  if ((examples === undefined) === (dataset === undefined))
    throw new ForewordError("validation", "examples: send exactly one of examples and dataset.", {
      field: "examples",
    });
  const { template, parent } = await startTemplate(registry, task, body.template);
  await checkSettings(registry, engine, task, template, settings);
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

/** Refuses now what would fail the job minutes later. */
async function checkSettings(
  registry: Registry,
  engine: Engine,
  task: Task,
  source: string,
  settings: TrainSettingsRequest,
): Promise<void> {
  const { context } = engine.backbone();
  const { init, method = "prefix", length } = settings;
  const template = compileTemplate(source);
  checkRequest(settings, template, task);
  checkPositions(knownPositions(template) ?? 0, context, "template");
  if (length !== undefined) checkPositions(length, context, "length");
  if (typeof init === "object" && "prompt" in init)
    checkInit(await trainedPositions(registry, engine, init.prompt, method), method, length);
}

/** Positions that another prompt gives a start: all before its first field, or its virtual tokens (0: its words). */
async function trainedPositions(
  registry: Registry,
  engine: Engine,
  { task, version }: { task: string; version: number },
  method: TrainMethod,
): Promise<number> {
  const { template, parameters: blob } = await registry.getPrompt(task, version);
  const parameters = blob === null ? null : await registry.getBlob(blob);
  const { length } = await engine.inspect({ template, parameters });
  if (method === "prefix") return length;
  return (parameters && readPromptFile(parameters).soft?.dims[0]) ?? 0;
}

function checkInit(given: number, method: TrainMethod, length: number | undefined): void {
  if (method === "soft" && given === 0) return;
  const problem =
    given === 0
      ? "the prompt has nothing before its first field to start from. Name another one"
      : length !== undefined && length !== given
        ? `the prompt gives ${given} ${method === "soft" ? "virtual tokens" : "positions"}, length asks for ${length}. Leave length out`
        : null;
  if (problem) throw new ForewordError("validation", `init: ${problem}.`, { field: "init" });
}

/** A data set's blob, or that of examples which are kept now. Throws `bad_dataset` where they don't suit the task. */
async function blobOf(
  registry: Registry,
  task: Task,
  template: string,
  data: readonly Example[] | string,
  field: "examples" | "validation",
): Promise<string> {
  if (typeof data === "string") {
    const { sha256, labels } = await registry.getDataset(data);
    checkKind(task, labels !== null, field);
    const unknown = Object.keys(labels ?? {}).find(label => !labelsOf(task).includes(label));
    if (unknown !== undefined) throw unknownLabel(task, unknown, `${field}: data set ${data}: `);
    if (field === "examples" && labels !== null) checkClasses(Object.keys(labels));
    return sha256;
  }
  const problems: LineProblem[] = [];
  const compiled = compileTemplate(template);
  const known = new Set(labelsOf(task));
  for (const [index, example] of data.entries()) {
    checkKind(task, "label" in example, field);
    try {
      if ("label" in example && !known.has(example.label)) throw unknownLabel(task, example.label);
      fillFields(compiled, example.input);
    } catch (error) {
      problems.push({ line: index + 1, detail: (error as Error).message });
    }
  }
  if (problems.length > 0) throw refused(problems, field);
  if (field === "examples" && task.type === "classification")
    checkClasses(data.flatMap(example => ("label" in example ? [example.label] : [])));
  return registry.putBlob(writeExamples({ examples: [...data], lines: data.map((_, index) => index + 1) }));
}

function checkKind({ id, type }: Task, labelled: boolean, field: string): void {
  if (labelled === (type === "classification")) return;
  throw new ForewordError(
    "bad_dataset",
    `${field}: task ${id} is a ${type} task; its examples have ${labelled ? "an output" : "a label"}, not ${labelled ? "a label" : "an output"}.`,
    { field },
  );
}

const unknownLabel = (task: Task, label: string, where = ""): ForewordError =>
  new ForewordError(
    "bad_dataset",
    `${where}the label ${JSON.stringify(label)} is none of the task's. Use one of: ${labelsOf(task).join(", ")}; or add it with PATCH /tasks/${task.id}.`,
    { label },
  );

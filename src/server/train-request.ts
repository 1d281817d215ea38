/** A training request, checked against its task, its data and the backbone: what a job keeps of it. */
import type { Task } from "../contract/task.ts";
import type { Ensemble, TrainMethod, TrainRequest, TrainSettingsRequest } from "../contract/train.ts";
import type { Engine } from "../engine/engine.ts";
import { ForewordError, invalid } from "../errors.ts";
import { trainingPrecision } from "../gate/choice.ts";
import { contentOf, mainVersions, untrainedTemplate } from "../jobs/contents.ts";
import { activeOf, keptFor, namedStart, type TrainJobRequest } from "../jobs/train-work.ts";
import { readPromptFile } from "../prompt/file.ts";
import { unstacked } from "../prompt/stack.ts";
import { type CompiledTemplate, compileTemplate } from "../prompt/template.ts";
import { withoutBlank } from "../prompt/verbalizer.ts";
import type { Registry } from "../registry/registry.ts";
import { checkPositions, checkRequest, knownPositions } from "../training/check.ts";
import { checkClasses } from "../training/data.ts";
import { LENGTH as DISTILLED, distilled, unanswered } from "./distil-request.ts";
import { type Base, baseOn, baseUnder, lengthOf } from "./stack.ts";
import { chosenData, dataFor, validationFor } from "./task-data.ts";
import { donorsFor } from "./trained.ts";

/** The share of the examples that validates by default. */
const VALIDATION = 0.1;

/** Throws what would fail the job later: `validation`, `bad_dataset`, what names nothing, what no backbone can hold. */
export async function jobRequest(
  registry: Registry,
  engine: Engine,
  task: Task,
  body: TrainRequest,
): Promise<TrainJobRequest> {
  const { examples, dataset, inputs, validation = VALIDATION, ...rest } = body;
  const { activate = false, ensemble, method, teacher, on, ...knobs } = rest;
  const learnt = method === "distill" ? await distilled(registry, engine, task, body) : null;
  const other = inputs === undefined ? "teacher" : "inputs";
  if (!learnt && (teacher ?? inputs) !== undefined)
    throw invalid(other, 'it is for the method "distill". Leave it out.');
  const data = inputs && learnt ? unanswered(task, inputs) : chosenData(body);
  const { template, parent, verbalizers } = learnt ?? (await startTemplate(registry, task, body.template));
  // A distilled prefix takes the place of all that its teacher puts before the first field.
  const below = on === undefined && !learnt && parent ? await baseUnder(registry, engine, parent) : null;
  const base = on ? await baseOn(registry, engine, on) : below;
  const settings: TrainSettingsRequest = {
    ...(method && { method: method === "distill" ? "prefix" : method }),
    ...(learnt && !namedStart(knobs) && { length: DISTILLED }),
    ...(learnt?.init && { init: learnt.init }),
    ...knobs,
  };
  if (activate === "if_better" && task.active && !(await activeOf(registry, engine, task, template)))
    throw invalid(
      "activate",
      "what is active takes other fields or is of another backbone, so that both can't be compared. Use true or false.",
    );
  const members = ensemble === undefined ? null : membersOf(ensemble, settings, task);
  for (const each of members ?? [settings]) await checkSettings(registry, engine, task, template, each, base);
  const chooses = (members ?? [settings]).find(({ init }) => init === "donor");
  if (chooses && learnt)
    throw invalid(
      "init",
      'a distillation starts as its teacher\'s words. Leave "donor" out, or name a prompt.',
    );
  if (chooses?.length !== undefined)
    throw invalid("init", "a donor has a length of its own. Leave length out, or use another start.");
  const donors = chooses && (await donorsFor(registry, engine, task.id, chooses.method ?? "prefix"));
  const { blob, labels } = await dataFor(registry, task, [template], data, "examples");
  if (task.type === "classification" && !learnt) checkClasses(labels);
  const chosen = {
    settings,
    teacher: learnt?.teacher ?? null,
    ...(donors && { donors }),
    ensemble: members && { members, vote: typeof ensemble === "object" ? (ensemble.vote ?? "mean") : "mean" },
  };
  return {
    ...chosen,
    template,
    parent,
    verbalizers,
    on: base?.on ?? null,
    base: base && (await registry.putBlob(base.file)),
    activate,
    examples: blob,
    validation: await validationFor(registry, task, template, validation),
    kept: await keptFor(registry, task.id, chosen),
  };
}

/** Settings of each member: seeds that follow one another, methods and starts in turn. */
function membersOf(
  ensemble: Ensemble,
  settings: TrainSettingsRequest,
  { type }: Task,
): TrainSettingsRequest[] {
  if (type !== "classification")
    throw invalid("ensemble", "members vote on labels; this task generates text. Leave ensemble out.");
  const { members, methods, inits } = typeof ensemble === "number" ? { members: ensemble } : ensemble;
  const inTurn = <Item>(items: readonly Item[] | undefined, at: number) => items?.[at % items.length];
  return Array.from({ length: members }, (_, member) => {
    const [method, init] = [inTurn(methods, member), inTurn(inits, member)];
    return {
      ...settings,
      seed: (settings.seed ?? 0) + member,
      ...(method && { method }),
      ...(init !== undefined && { init }),
    };
  });
}

/** The template that training starts from: the request's, or the words of what answers now. */
export async function startTemplate(
  registry: Registry,
  { id, active, labels }: Task,
  given: string | undefined,
): Promise<Pick<TrainJobRequest, "template" | "parent" | "verbalizers">> {
  if (given !== undefined) {
    compileTemplate(given);
    return { template: withoutBlank(given, labels), parent: null, verbalizers: null };
  }
  if (!active)
    throw new ForewordError(
      "no_active_prompt",
      `Task ${id} has no active prompt to start from. Activate one, or train with a template.`,
    );
  const version = mainVersions(active)[0]!;
  const record = await registry.getPrompt(id, version);
  return {
    template: untrainedTemplate(record),
    parent: { task: id, version },
    verbalizers: record.verbalizers ?? null,
  };
}

/** Refuses now what would fail the job minutes later. */
export async function checkSettings(
  registry: Registry,
  engine: Engine,
  task: Task,
  source: string,
  settings: TrainSettingsRequest,
  base: Base | null,
): Promise<void> {
  const context = engine.backbone().context - (base ? await lengthOf(engine, base.file) : 0);
  const { method = "prefix", length } = settings;
  trainingPrecision(settings.precision, engine.backbone());
  const template = compileTemplate(source);
  checkRequest(settings, template, task);
  checkPositions(knownPositions(template) ?? 0, context, "template");
  if (length !== undefined) checkPositions(length, context, "length");
  const start = namedStart(settings);
  if (start === null) return;
  const given = await givenPositions(registry, engine, start, method, base);
  if (given !== null) checkInit(given, method, length ?? (method === "soft" ? knownSlots(template) : null));
}

/** Positions of the template's soft slots; null where it has none, or a start text decides. */
const knownSlots = (template: CompiledTemplate): number | null => knownPositions(template) || null;

/**
 * Positions that another prompt gives a start: all before its first field, or its virtual tokens; null where its words
 * give as many virtual tokens as are wanted.
 */
async function givenPositions(
  registry: Registry,
  engine: Engine,
  { task, version }: { task: string; version: number },
  method: TrainMethod,
  base: Base | null,
): Promise<number | null> {
  const content = await contentOf(registry, task, version);
  const { length } = await engine.inspect(base ? unstacked(content) : content);
  if (method === "prefix" || length === 0) return length;
  const file = content.parameters && readPromptFile(content.parameters);
  if (file?.soft) return file.soft.dims[0];
  if (!file?.prefix) return null;
  throw invalid(
    "init",
    `version ${version} of ${task} is a prefix, keys and values of every layer, from which no virtual tokens can start. Use method "prefix", or name a soft prompt.`,
  );
}

function checkInit(given: number, method: TrainMethod, wanted: number | null): void {
  if (given === 0)
    throw invalid("init", "the prompt has nothing before its first field to start from. Name another one.");
  if (wanted !== null && wanted !== given)
    throw invalid(
      "init",
      `the prompt gives ${given} ${method === "soft" ? "virtual tokens" : "positions"}, length or the template's slots ask for ${wanted}. Leave them out.`,
    );
}

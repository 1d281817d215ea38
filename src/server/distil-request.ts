/** Whose answers a distillation learns, and where its prefix starts: checked before any work. */
import type { Example } from "../contract/dataset.ts";
import type { Input } from "../contract/infer.ts";
import type { Task } from "../contract/task.ts";
import type { TrainRequest } from "../contract/train.ts";
import type { Engine } from "../engine/engine.ts";
import { ForewordError, invalid } from "../errors.ts";
import { untrainedTemplate } from "../jobs/contents.ts";
import type { TrainJobRequest } from "../jobs/train-work.ts";
import { compileTemplate, hasSlots } from "../prompt/template.ts";
import type { Registry } from "../registry/registry.ts";
import { labelsOf } from "../training/check.ts";
import type { Fitted } from "../training/job.ts";
import { wordsBeforeField } from "../training/plan.ts";
import { baseUnder } from "./stack.ts";
import { checkCompatible } from "./views.ts";

/** Positions of a distilled prefix by default. */
export const LENGTH = 32;

export type Distilled = Pick<TrainJobRequest, "template" | "parent" | "verbalizers" | "teacher"> & {
  /** What the prefix begins as, unless the request says. */
  init: { text: string } | null;
};

/** Throws `validation`, `prompt_not_found`, `no_active_prompt`, `backbone_mismatch`, `input_too_long` (a teacher that does not fit). */
export async function distilled(
  registry: Registry,
  engine: Engine,
  task: Task,
  body: TrainRequest,
): Promise<Distilled> {
  const { teacher, activate, ensemble } = body;
  for (const field of ["template", "class_weights", "label_smoothing"] as const)
    if (body[field] !== undefined)
      throw invalid(field, "a distillation has its teacher's words and answers. Leave it out.");
  if (body.inputs && (body.examples ?? body.dataset) !== undefined)
    throw invalid("inputs", "send exactly one of inputs, examples and dataset.");
  if ((body.inputs ?? body.examples ?? body.dataset) === undefined)
    throw invalid(
      "inputs",
      "a distillation needs inputs, which its teacher answers; or examples, or a dataset.",
    );
  if (activate === "if_better")
    throw invalid(
      "activate",
      "a distillation needs no labels to be better by: its reply tells how far it agrees with its teacher. Use true or false.",
    );
  if (ensemble !== undefined) throw invalid("ensemble", "distil one prefix at a time. Leave it out.");
  const version = typeof teacher === "number" ? teacher : task.active?.prompt;
  if (version === undefined)
    throw new ForewordError(
      "no_active_prompt",
      `Task ${task.id} has no single active prompt to learn from. Name a teacher.`,
    );
  const record = await registry.getPrompt(task.id, version);
  checkCompatible(record, engine);
  const own = untrainedTemplate(record);
  if (typeof teacher === "object" && (await baseUnder(registry, engine, { task: task.id, version })))
    throw invalid(
      "teacher",
      `version ${version} is stacked on another prompt, which a text can't stand before. Name a version.`,
    );
  const text = typeof teacher === "object" ? teacher.text : null;
  const template = text === null ? own : `${text.trimEnd()}\n\n${own}`;
  const compiled = compileTemplate(template);
  if (hasSlots(compileTemplate(own)))
    throw invalid(
      "teacher",
      "its template has soft slots, which a prefix can't stand for. Name another version.",
    );
  if (text?.includes("{{"))
    throw invalid("teacher", "its text must have no {{ }}: the task's own words and fields follow it.");
  if (text !== null) await engine.inspect({ template, parameters: null });
  const words = wordsBeforeField(compiled);
  return {
    template,
    parent: { task: task.id, version },
    verbalizers: record.verbalizers ?? null,
    teacher: text === null ? { version, fitted: fittedTo(task, version) } : { template },
    init: words.trim() === "" ? null : { text: words },
  };
}

/** What is active teaches as it answers, biases and temperature among it. */
const fittedTo = ({ active }: Task, version: number): Fitted => {
  const { bias, temperature } = (active?.prompt === version && active) || {};
  return { ...(bias && { bias }), ...(temperature !== undefined && { temperature }) };
};

/** Inputs as examples, whose answers are the teacher's to give. */
export function unanswered(task: Task, inputs: readonly Input[]): Example[] {
  const [first] = labelsOf(task);
  return inputs.map(input => (first === undefined ? { input, output: "" } : { input, label: first }));
}

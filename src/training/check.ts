/** What a request can be refused for as soon as it is made, before a tokenizer or an example is looked at. */
import type { Task } from "../contract/task.ts";
import type { Metric, TrainSettingsRequest } from "../contract/train.ts";
import { invalid } from "../errors.ts";
import type { CompiledTemplate } from "../prompt/template.ts";

/** Throws `validation`, naming the field. */
export function checkRequest(
  { method = "prefix", length, metric, class_weights, label_smoothing }: TrainSettingsRequest,
  template: CompiledTemplate,
  task: Pick<Task, "type" | "labels">,
): void {
  const slots = template.pieces.filter(piece => piece.kind === "soft");
  if (method === "prefix" && slots.length > 0) {
    throw invalid(
      "template",
      'its soft slots are trained with method "soft". Choose it, or leave the slots out.',
    );
  }
  if (slots.length > 0) checkLength(length, knownPositions(template));
  checkMetric(metric, task);
  if (task.type === "generation") {
    if (class_weights) throw invalid("class_weights", "it is for classification. Leave it out.");
    if (label_smoothing) throw invalid("label_smoothing", "it is for classification. Leave it out.");
  } else if (typeof class_weights === "object") {
    const labels = labelsOf(task);
    const unknown = Object.keys(class_weights).find(label => !labels.includes(label));
    if (unknown !== undefined)
      throw invalid(
        "class_weights",
        `the task has no label ${JSON.stringify(unknown)}. Use its labels: ${labels.join(", ")}.`,
      );
  }
}

export function checkMetric(metric: Metric | undefined, { type }: Pick<Task, "type">): void {
  if (type === "generation" && metric !== undefined && metric !== "loss")
    throw invalid("metric", `${metric} is for classification. Use "loss", or leave it out.`);
}

/** Throws `validation` where soft slots have another length than is asked for; null is not known yet. */
export function checkLength(length: number | undefined, slots: number | null): void {
  if (length === undefined || slots === null || slots === length) return;
  throw invalid(
    "length",
    `the template's soft slots have ${slots} positions, not ${length}. Leave length out, or change the slots.`,
  );
}

/** Throws `validation` where `trained` positions leave no room for one token of input and one of an answer. */
export function checkPositions(trained: number, context: number, field: string): void {
  const limit = context - 2;
  if (trained <= limit) return;
  throw invalid(
    field,
    `${trained} trained positions leave no room for an input in the backbone's context of ${context}. Take at most ${limit}.`,
    { tokens: trained, limit, over: trained - limit },
  );
}

/** Positions of a template's soft slots, or null where a start text decides. */
export function knownPositions({ pieces }: CompiledTemplate): number | null {
  const lengths = pieces.filter(piece => piece.kind === "soft").map(slot => slot.length);
  return lengths.reduce(
    (sum, each) => (sum === null || each === null ? null : sum + each),
    0 as number | null,
  );
}

export const labelsOf = ({ labels }: Pick<Task, "labels">): string[] =>
  labels === null ? [] : Array.isArray(labels) ? labels : Object.keys(labels);

/** What is wrong with a label that the task has not. */
export const noLabel = (task: Pick<Task, "labels"> & Partial<Pick<Task, "id">>, label: string): string =>
  `the label ${JSON.stringify(label)} is none of the task's. Use one of: ${labelsOf(task).join(", ")}${task.id ? `; or add it with PATCH /tasks/${task.id}` : ""}`;

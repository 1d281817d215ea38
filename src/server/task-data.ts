/** Examples that a request brings or names, checked against its task. */
import type { Example, Validation } from "../contract/dataset.ts";
import type { Task } from "../contract/task.ts";
import { ForewordError, invalid } from "../errors.ts";
import { fillFields } from "../prompt/fields.ts";
import { compileTemplate } from "../prompt/template.ts";
import type { Registry } from "../registry/registry.ts";
import { labelsOf, noLabel } from "../training/check.ts";
import { firstLineWith, type LineProblem, refused, writeExamples } from "../training/examples.ts";

export interface TaskData {
  blob: string;
  /** Those that occur; none where examples have outputs. */
  labels: string[];
}

/** The one of `examples` and `dataset` that was sent. Throws `validation`. */
export function chosenData({
  examples,
  dataset,
}: {
  examples?: Example[];
  dataset?: string;
}): Example[] | string {
  if ((examples === undefined) === (dataset === undefined))
    throw invalid("examples", "send exactly one of examples and dataset.");
  return examples ?? dataset!;
}

/**
 * A data set's blob, or that of examples which are kept now. Throws `bad_dataset` where they don't suit the task, or,
 * as far as they were sent, the fields of a template.
 */
export async function dataFor(
  registry: Registry,
  task: Task,
  templates: readonly string[],
  data: readonly Example[] | string,
  field: "examples" | "validation",
): Promise<TaskData> {
  if (typeof data === "string") {
    const { sha256, labels } = await registry.getDataset(data);
    checkKind(task, labels !== null, field);
    const unknown = Object.keys(labels ?? {}).find(label => !labelsOf(task).includes(label));
    if (unknown !== undefined) {
      const line = firstLineWith(unknown, await registry.getBlob(sha256));
      const detail = `${field}: data set ${data}, line ${line}: ${noLabel(task, unknown)}.`;
      throw new ForewordError("bad_dataset", detail, { field, line, label: unknown });
    }
    return { blob: sha256, labels: Object.keys(labels ?? {}) };
  }
  const problems: LineProblem[] = [];
  const compiled = templates.map(compileTemplate);
  const known = new Set(labelsOf(task));
  for (const [index, example] of data.entries()) {
    try {
      checkKind(task, "label" in example, field);
      if ("label" in example && !known.has(example.label))
        throw new ForewordError("bad_dataset", noLabel(task, example.label));
      for (const template of compiled) fillFields(template, example.input);
    } catch (error) {
      problems.push({ line: index + 1, detail: (error as Error).message });
    }
  }
  if (problems.length > 0) throw refused(problems, field);
  const bytes = writeExamples({ examples: [...data], lines: data.map((_, index) => index + 1) });
  const labels = new Set(data.flatMap(example => ("label" in example ? [example.label] : [])));
  return { blob: await registry.putBlob(bytes), labels: [...labels] };
}

/** What validates, as a job keeps it: the share, or a blob. */
export const validationFor = async (
  registry: Registry,
  task: Task,
  template: string,
  validation: Validation,
): Promise<string | number> =>
  typeof validation === "number"
    ? validation
    : (await dataFor(registry, task, [template], validation, "validation")).blob;

function checkKind({ id, type }: Task, labelled: boolean, field: string): void {
  if (labelled === (type === "classification")) return;
  throw new ForewordError(
    "bad_dataset",
    `${field}: task ${id} is a ${type} task; its examples have ${labelled ? "an output" : "a label"}, not ${labelled ? "a label" : "an output"}.`,
    { field },
  );
}

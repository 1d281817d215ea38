/** A prompt copied from another task: what it meant there, it must mean here. */
import type { PromptRecord } from "../contract/prompt.ts";
import type { Task, Verbalizers } from "../contract/task.ts";
import { invalid } from "../errors.ts";
import { compileTemplate } from "../prompt/template.ts";
import { spelledOut } from "../prompt/verbalizer.ts";
import { labelsOf } from "../training/check.ts";

/**
 * The verbalizers that a copy needs to read labels as the original does. If both tasks have the same labels, these are
 * the texts that differ; if not, the prompt's own for labels that the other task has too. Throws `validation` if a
 * trained prompt would meet labels, or a type of task, that it was not trained for; a hard prompt goes anywhere.
 */
export function copiedVerbalizers(from: Task, to: Task, record: PromptRecord): Verbalizers | undefined {
  const [there, here] = [from, to].map(task => labelsOf(task).slice().sort().join("\n"));
  const alike = from.type === to.type && there === here;
  if (!alike && record.bytes > 0)
    throw invalid(
      "from",
      `prompt ${record.version} of ${from.id} was trained for ${purpose(from)}, and ${to.id} is for ${purpose(to)}. Train a new one that starts from it, with "init": {"prompt": {"task": "${from.id}", "version": ${record.version}}}.`,
    );
  if (!from.labels || !to.labels) return undefined;
  const template = compileTemplate(record.template);
  const ours = spelledOut(to.labels, template) as Verbalizers;
  const theirs = alike
    ? (spelledOut(from.labels, template, record.verbalizers) as Verbalizers)
    : (record.verbalizers ?? {});
  const other = Object.entries(theirs).filter(
    ([label, texts]) => Object.hasOwn(ours, label) && JSON.stringify(texts) !== JSON.stringify(ours[label]),
  );
  return other.length === 0 ? undefined : Object.fromEntries(other);
}

const purpose = (task: Task): string =>
  task.type === "generation" ? "text generation" : `the labels ${labelsOf(task).join(", ")}`;

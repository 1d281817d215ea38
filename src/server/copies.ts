/** A prompt copied from another task: what it meant there, it must mean here. */
import type { PromptRecord } from "../contract/prompt.ts";
import type { Task, Verbalizers } from "../contract/task.ts";
import { ForewordError } from "../errors.ts";
import { compileTemplate } from "../prompt/template.ts";
import { spelledOut } from "../prompt/verbalizer.ts";
import { labelsOf } from "../training/check.ts";

/**
 * The verbalizers that a copy needs to read labels as the original does: where both tasks have the same labels, the
 * texts that differ, else those of the prompt's own whose labels are there. Throws `validation` where a trained prompt would come to labels, or to a type of task, that it was
 * not trained for; words mean what they say anywhere.
 */
export function copiedVerbalizers(from: Task, to: Task, record: PromptRecord): Verbalizers | undefined {
  const [there, here] = [from, to].map(task => labelsOf(task).slice().sort().join("\n"));
  const alike = from.type === to.type && there === here;
  if (!alike && record.bytes > 0)
    throw new ForewordError(
      "validation",
      `from: prompt ${record.version} of ${from.id} was trained for ${purpose(from)}, and ${to.id} is for ${purpose(to)}. Train a new one that starts from it, with "init": {"prompt": {"task": "${from.id}", "version": ${record.version}}}.`,
      { field: "from" },
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

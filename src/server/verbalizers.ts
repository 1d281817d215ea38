/** Verbalizers of one prompt, checked against its task and the backbone's tokens. */
import type { Task, Verbalizers } from "../contract/task.ts";
import type { Engine } from "../engine/engine.ts";
import { invalid } from "../errors.ts";
import { compileTemplate } from "../prompt/template.ts";
import { verbalize } from "../prompt/verbalizer.ts";
import { labelsOf } from "../training/check.ts";

/** Throws `validation` for a label that the task has not, `duplicate_verbalizer` where two labels have the same tokens. */
export async function checkVerbalizers(
  engine: Engine,
  task: Pick<Task, "labels">,
  { template, verbalizers }: { template: string; verbalizers?: Verbalizers },
): Promise<void> {
  const known = labelsOf(task);
  const unknown = Object.keys(verbalizers ?? {}).find(label => !known.includes(label));
  if (unknown !== undefined)
    throw invalid(
      "verbalizers",
      `${JSON.stringify(unknown)} is none of the task's labels (${known.join(", ") || "it has none"}).`,
    );
  if (task.labels) await engine.checkLabels(verbalize(task.labels, compileTemplate(template), verbalizers));
}

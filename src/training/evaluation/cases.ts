/** Examples as they are asked: a label's each by itself, a text's input once, with every text that would do. */
import type { TaskType } from "../../contract/task.ts";
import { fillFields } from "../../prompt/fields.ts";
import { compileTemplate } from "../../prompt/template.ts";
import { answerOf, inputKey, type LineProblem, type ReadExamples } from "../examples.ts";
import type { TextCase } from "./write.ts";

export interface Case extends TextCase {
  /** The line of its first example. */
  line: number;
}

export function casesOf({ examples, lines }: ReadExamples, type: TaskType): Case[] {
  const cases = new Map<string, { input: Case["input"]; wanted: string[]; line: number }>();
  for (const [index, example] of examples.entries()) {
    const key = type === "generation" ? inputKey(example) : String(index);
    const known = cases.get(key);
    if (known) known.wanted.push(answerOf(example));
    else cases.set(key, { input: example.input, wanted: [answerOf(example)], line: lines[index]! });
  }
  return [...cases.values()];
}

/** The first input that doesn't fill the fields of a contender's prompts. */
export function misfit(
  name: string,
  prompts: readonly { template: string }[],
  { examples, lines }: ReadExamples,
): LineProblem | null {
  const templates = prompts.map(({ template }) => compileTemplate(template));
  for (const [index, { input }] of examples.entries())
    try {
      for (const template of templates) fillFields(template, input);
    } catch (error) {
      return { line: lines[index]!, detail: `prompt ${name}: ${(error as Error).message}` };
    }
  return null;
}

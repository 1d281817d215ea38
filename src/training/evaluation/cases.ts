/** Examples as they are asked: a label's each by itself, a text's input once, with every text that would do. */
import type { TaskType } from "../../contract/task.ts";
import { answerOf, inputKey, type ReadExamples } from "../examples.ts";
import type { TextCase } from "./judge.ts";

export interface Case extends TextCase {
  /** Of its first example. */
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

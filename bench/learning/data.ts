/** A folder of data sets: `<name>/{train,dev,test}.jsonl`, one example a line. */
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import type { Example } from "../../src/contract/dataset.ts";
import { answerOf, inputKey, parseExamples, writeExamples } from "../../src/training/examples.ts";
import { libraryTasks } from "../prompts/candidates.ts";

/** Of an answer: E2E's longest references have about 70 tokens. */
export const MAX_TOKENS = 128;

export interface DataSet {
  name: string;
  /** The bundled task that it belongs to; others get a task of their own. */
  task: string | null;
  metric: "accuracy" | "macro_f1" | "bleu";
  train: Example[];
  dev: Example[];
  /** Each input once, without those that are trained on. */
  test: TestCase[];
  /** Test inputs that also occur in train. */
  leftOut: number;
}

export interface TestCase {
  input: Example["input"];
  /** The label alone, or every text that would do. */
  answers: string[];
}

export const dataSets = (folder: string): string[] =>
  readdirSync(folder)
    .filter(name => ["train", "dev", "test"].every(split => existsSync(join(folder, name, `${split}.jsonl`))))
    .sort();

/** Whether its examples have labels; else they have texts. */
export const hasLabels = (folder: string, name: string): boolean =>
  "label" in JSON.parse(readFileSync(join(folder, name, "dev.jsonl"), "utf8").split("\n")[0]!);

/** `limit` keeps the first examples of each split, for trying the bench out. */
export function readDataSet(folder: string, name: string, limit = Number.POSITIVE_INFINITY): DataSet {
  const [train, dev, test] = ["train", "dev", "test"].map(split =>
    parseExamples(readFileSync(join(folder, name, `${split}.jsonl`))).examples.slice(0, limit),
  ) as [Example[], Example[], Example[]];
  const known = libraryTasks.find(task => task.dataset === name);
  const metric = known?.metric ?? ("label" in train[0]! ? "accuracy" : "bleu");
  return { name, task: known?.id ?? null, metric, train, dev, ...testCases(train, test) };
}

/** A text's answers are its references; a classification's examples stay as they are, repeated inputs too. */
export function testCases(
  train: readonly Example[],
  test: readonly Example[],
): Pick<DataSet, "test" | "leftOut"> {
  const trained = new Set(train.map(inputKey));
  const cases = new Map<string, TestCase>();
  let leftOut = 0;
  for (const [index, example] of test.entries()) {
    const key = inputKey(example);
    if (trained.has(key)) {
      leftOut++;
      continue;
    }
    const id = "label" in example ? String(index) : key;
    const known = cases.get(id);
    if (known) known.answers.push(answerOf(example));
    else cases.set(id, { input: example.input, answers: [answerOf(example)] });
  }
  return { test: [...cases.values()], leftOut };
}

export const asNdjson = (examples: readonly Example[]): Uint8Array =>
  writeExamples({ examples: [...examples], lines: examples.map((_, index) => index + 1) });

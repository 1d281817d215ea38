/**
 * Trains the bundled tasks' prompts with default settings and keeps them beside the hard ones: prompts/<task>/<method>
 * .safetensors, parameters as F16, and .json with what the file scores as it lies there, on dev and once on test.
 *
 *     npm run bench -- prompts [--task sentiment] [--method prefix] [--data ../shared/data]
 */
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { parseArgs } from "node:util";
import type { PromptRecord } from "../../src/contract/prompt.ts";
import type { TrainMethod } from "../../src/contract/train.ts";
import { readPromptFile, writePromptFile } from "../../src/prompt/file.ts";
import { Product } from "../harness/product.ts";
import { type DataSet, readDataSet, testCases } from "../learning/data.ts";
import { answer, trainOn } from "../learning/own.ts";
import { scoreOf } from "../learning/score.ts";
import { type LibraryTask, libraryTasks } from "./candidates.ts";

const root = new URL("../../", import.meta.url).pathname;
const PROMPT_FILE = "application/vnd.foreword.prompt+safetensors";

const options = {
  data: { type: "string", default: join(root, "../shared/data") },
  task: { type: "string", multiple: true },
  method: { type: "string", multiple: true },
  seed: { type: "string", default: "1" },
  out: { type: "string", default: join(root, "prompts") },
} as const;

const methods: TrainMethod[] = ["prefix", "soft"];
const rounded = (score: number) => Number(score.toFixed(4));

export async function run(args: string[]): Promise<void> {
  const { values } = parseArgs({ args, options });
  const product = await Product.start("prompts");
  try {
    for (const task of libraryTasks)
      for (const method of methods)
        if ((values.task?.includes(task.id) ?? true) && (values.method?.includes(method) ?? true))
          await train(product, task, method, values);
  } finally {
    await product.stop();
  }
}

async function train(
  product: Product,
  { id, dataset }: LibraryTask,
  method: TrainMethod,
  options: { data: string; seed: string; out: string },
): Promise<void> {
  const data = readDataSet(options.data, dataset);
  const seed = Number(options.seed);
  const { version, trainingSeconds } = await trainOn(product, id, data, { method, seed });
  const file = writePromptFile(readPromptFile(await product.promptFile(id, version)), "F16");
  const kept = await product.post<PromptRecord>(`/tasks/${id}/prompts`, file, PROMPT_FILE);
  const score = async (cases: DataSet["test"]) => {
    const given = await answer(product, id, cases, data.metric, kept.version);
    return rounded(scoreOf({ metric: data.metric, test: cases }, given).score);
  };
  const dev = testCases([], data.dev).test;
  const about = {
    metric: data.metric,
    dev: await score(dev),
    dev_examples: dev.length,
    test: await score(data.test),
    test_examples: data.test.length,
    length: kept.length,
    bytes: kept.bytes,
    training_seconds: Math.round(trainingSeconds),
    command: `npm run bench -- prompts --task ${id} --method ${method} --seed ${seed}`,
  };
  const place = join(options.out, id, method);
  await writeFile(`${place}.safetensors`, file);
  await writeFile(`${place}.json`, `${JSON.stringify(about, null, 2)}\n`);
  console.log(id, method, about);
}

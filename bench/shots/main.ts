/**
 * What which and how many worked examples a prompt shows decide: several disjoint choices of each number a label, judged
 * on the same dev examples with label biases fitted across their halves.
 *
 *     npm run bench -- shots [--data ../shared/data] [--only sst2,trec] [--sizes 1,2,4,8,16] [--choices 5] [--examples 300]
 *
 * Writes bench/results/shots/<data>.json.
 */
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import type { Example } from "../../src/contract/dataset.ts";
import { randomFrom } from "../../src/engine/sampler.ts";
import { shuffled } from "../../src/training/batches.ts";
import { label, Shelf } from "../../src/training/evaluation/judge.ts";
import { accuracy } from "../../src/training/evaluation/metrics.ts";
import { withBias } from "../../src/training/search/biases.ts";
import { isPlain, ofEachLabel, showing } from "../../src/training/search/candidates.ts";
import { gateCore } from "../gate/core.ts";
import { machine } from "../harness/report.ts";
import { type DataSet, readDataSet } from "../learning/data.ts";

const results = fileURLToPath(new URL("../results/shots/", import.meta.url));
const SEED = 1;

interface Shown {
  /** Worked examples of each label. */
  each: number;
  /** Accuracy of every choice, without biases and with them. */
  plain: number[];
  biased: number[];
}

export async function run(args: string[]): Promise<void> {
  const { values } = parseArgs({
    args,
    options: {
      data: { type: "string", default: "../shared/data" },
      only: { type: "string", default: "sst2,trec" },
      sizes: { type: "string", default: "1,2,4,8,16" },
      choices: { type: "string", default: "5" },
      examples: { type: "string", default: "300" },
    },
  });
  mkdirSync(results, { recursive: true });
  for (const name of values.only.split(",")) {
    const shown = await measure(
      readDataSet(values.data, name),
      values.sizes.split(",").map(Number),
      Number(values.choices),
      Number(values.examples),
    );
    const report = { command: `npm run bench -- shots ${args.join(" ")}`.trim(), machine: machine(), shown };
    writeFileSync(join(results, `${name}.json`), `${JSON.stringify(report, null, 2)}\n`);
    console.log(`${name}: of each label, accuracy with biases, without`);
    for (const { each, plain, biased } of shown) {
      const listed = (list: readonly number[]) => list.map(one => one.toFixed(3)).join(" ");
      console.log(`  ${String(each).padStart(2)}  ${listed(biased)}    ${listed(plain)}`);
    }
  }
}

async function measure(
  { train, dev }: DataSet,
  sizes: readonly number[],
  choices: number,
  examples: number,
): Promise<Shown[]> {
  const shelf = new Shelf();
  const opened = await gateCore("int8", shelf);
  const labels = [...new Set(train.map(example => (example as { label: string }).label))];
  const task = { labels };
  const mixed = (all: readonly Example[]) => shuffled(all.length, randomFrom(SEED)).map(index => all[index]!);
  const usable = mixed(train).filter(example => isPlain(example, task, opened.tokenizer));
  const judged = mixed(dev).slice(0, examples);
  const shown: Shown[] = [];
  for (const each of sizes) {
    const [plain, biased]: [number[], number[]] = [[], []];
    for (let choice = 0; choice < choices; choice++) {
      const template = showing(ofEachLabel(usable, each, choice * each), task, ["input"]);
      const prompts = [{ template, parameters: null }];
      const judging = { ...opened, shelf, task, prompts, active: {}, pause: async () => {} };
      const answers = await label(judging, judged, { every: true });
      plain.push(accuracy(answers));
      biased.push(accuracy(withBias(answers, labels)));
    }
    shown.push({ each, plain, biased });
  }
  await opened.close();
  return shown;
}

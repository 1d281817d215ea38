/**
 * How well a start's loss before training, and the similarity of prompts, tell what training from it comes to: new small
 * tasks, each trained from every bundled prefix and from worked examples of its own.
 *
 *     npm run bench -- transfer [--data ../shared/data] [--only polarity,answer] [--steps 40]
 *
 * A target that is there is not repeated: bench/results/transfer/<target>.json.
 */
import { existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import type { Init } from "../../src/contract/train.ts";
import { randomFrom } from "../../src/engine/sampler.ts";
import { readPromptFile } from "../../src/prompt/file.ts";
import { similarity, taskEmbedding } from "../../src/prompt/task-embedding.ts";
import { shuffled } from "../../src/training/batches.ts";
import type { Bench } from "../../src/training/begin.ts";
import { examplesOf } from "../../src/training/data.ts";
import { donated, rankStarts } from "../../src/training/donors.ts";
import { judge } from "../../src/training/evaluation/judge.ts";
import { scores } from "../../src/training/evaluation/metrics.ts";
import type { Donor, TrainJob } from "../../src/training/job.ts";
import { train } from "../../src/training/run.ts";
import { Shelf } from "../../src/training/shelf.ts";
import { gateCore } from "../gate/core.ts";
import { asNdjson } from "../learning/data.ts";
import { libraryTasks } from "../prompts/candidates.ts";
import { type Target, targetNames, targetOf } from "./targets.ts";

const results = fileURLToPath(new URL("../results/transfer/", import.meta.url));
const library = fileURLToPath(new URL("../../prompts/", import.meta.url));
const quiet = { progress: () => {}, log: () => {}, checkpoint: async () => {}, pause: async () => {} };
/** Rows that train, and rows that looks on the way judge; the rest of `TESTED` behind the first judge the outcome. */
const [TRAINED, LOOKED, TESTED] = [160, 96, 240];
/** Steps of the brief training that similarity needs. */
const BRIEF = 20;
const SEED = 1;

interface Outcome {
  start: string;
  before: { loss: number; accuracy: number | null };
  /** To the target's own prompt after a brief training; null for its own start. */
  similarity: { average_tokens: number; token_pairs: number } | null;
  after: { loss: number; accuracy: number };
}

export async function run(args: string[]): Promise<void> {
  const { values } = parseArgs({
    args,
    options: {
      data: { type: "string", default: "../shared/data" },
      only: { type: "string", default: targetNames.join(",") },
      steps: { type: "string", default: "40" },
    },
  });
  mkdirSync(results, { recursive: true });
  for (const name of values.only.split(",")) {
    const file = join(results, `${name}.json`);
    if (!existsSync(file)) {
      const outcomes = await measure(targetOf(values.data, name), Number(values.steps));
      writeFileSync(file, `${JSON.stringify(outcomes, null, 2)}\n`);
    }
    show(name, JSON.parse(readFileSync(file, "utf8")));
  }
}

async function measure({ name, labels, template, examples }: Target, steps: number): Promise<Outcome[]> {
  const shelf = new Shelf();
  const opened = await gateCore("int8", shelf);
  const bench: Bench = { ...opened, shelf };
  const mixed = shuffled(examples.length, randomFrom(SEED)).map(index => examples[index]!);
  const [trained, rest] = [mixed.slice(0, TRAINED), mixed.slice(TRAINED)];
  const donors = libraryTasks.map(({ id }): Donor => {
    const parameters = readFileSync(join(library, id, "prefix.safetensors"));
    const content = { template: readPromptFile(parameters).template, parameters };
    return { task: id, version: 1, kind: "prefix", content };
  });
  const job: TrainJob = {
    task: { id: name, type: "classification", labels, description: "" },
    request: { steps, batch_size: 8, metric: "loss", seed: SEED },
    template,
    verbalizers: null,
    base: null,
    initial: null,
    donors,
    teacher: null,
    examples: asNdjson(trained),
    validation: asNdjson(rest.slice(0, LOOKED)),
    active: null,
    checkpoint: null,
    splitSeed: SEED,
    member: 0,
    checkpointSeconds: 3600,
  };
  const trainFrom = (init: Init, more: Partial<TrainJob> = {}) =>
    train(bench, { ...job, request: { ...job.request, init }, initial: donated(job, init), ...more }, quiet);
  const brief = await trainFrom("examples", {
    request: { ...job.request, init: "examples", steps: BRIEF },
    validation: asNdjson(rest.slice(0, 16)),
  });
  const own = taskEmbedding(readPromptFile(brief.file), "prefix");
  const outcomes: Outcome[] = [];
  for (const { init, loss, accuracy } of (await rankStarts(bench, job, examplesOf(job), quiet)).table) {
    const { file: parameters, template: words } = await trainFrom(init);
    const prompts = [{ template: words, parameters }];
    const judging = { ...bench, task: job.task, prompts, active: {} };
    const judged = await judge(judging, rest.slice(0, TESTED));
    const donor = donated(job, init);
    outcomes.push({
      start: donor && typeof init === "object" && "prompt" in init ? init.prompt.task : String(init),
      before: { loss, accuracy },
      similarity: donor && similarity(own, taskEmbedding(readPromptFile(donor.parameters!), "prefix")),
      after: { loss: -scores.loss(judged), accuracy: scores.accuracy(judged) },
    });
  }
  await opened.close();
  return outcomes;
}

function show(name: string, outcomes: readonly Outcome[]): void {
  console.log(`${name}: loss before and after training, accuracy after, similarity`);
  for (const { start, before, after, similarity: alike } of outcomes)
    console.log(
      `  ${start.padEnd(16)} ${before.loss.toFixed(3)}  ${after.loss.toFixed(3)}  ${after.accuracy.toFixed(3)}  ${alike?.average_tokens.toFixed(3) ?? ""}`,
    );
  const ranks = (values: readonly number[]) =>
    values.map(each => values.filter(other => other < each).length);
  const correlation = (a: readonly number[], b: readonly number[]) => {
    const [x, y] = [ranks(a), ranks(b)];
    const squares = x.reduce((sum, rank, i) => sum + (rank - y[i]!) ** 2, 0);
    return 1 - (6 * squares) / (a.length * (a.length ** 2 - 1));
  };
  const given = outcomes.filter(({ similarity: alike }) => alike);
  const of = (list: readonly Outcome[], value: (outcome: Outcome) => number) =>
    correlation(
      list.map(value),
      list.map(({ after }) => after.loss),
    ).toFixed(2);
  console.log(
    `  rank correlation with the loss after: of all starts by the loss before ${of(outcomes, ({ before }) => before.loss)}; of donors by the loss before ${of(given, ({ before }) => before.loss)}, by similarity ${of(given, each => -each.similarity!.average_tokens)}`,
  );
}

/**
 * The time until 0.90 of TREC's dev is answered right. PEFT's prompt tuning, prefix tuning and p-tuning run at each of
 * four learning rates and are looked at every ten seconds of training, while their clock stands still; at most an hour
 * each, which then counts as an hour. Foreword runs whole jobs over HTTP, shorter ones first, and what counts is the first
 * job that ends with it, from its start to its last step, looks and loading within. Every run is kept once it is done.
 */
import { existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { openBackbone } from "../../src/backbone/source.ts";
import { Tokenizer } from "../../src/backbone/tokenizer.ts";
import type { Job } from "../../src/contract/job.ts";
import { backboneFile } from "../harness/backbone.ts";
import { dataFolder, Product } from "../harness/product.ts";
import { check } from "../harness/report.ts";
import { summarise } from "../harness/samples.ts";
import { readDataSet, testCases } from "../learning/data.ts";
import { ended, keep } from "../learning/own.ts";
import { peerRun } from "../learning/peer-run.ts";
import { PythonPeer } from "../peers/python.ts";
import { type Part, type PartOptions, partsFolder } from "./parts.ts";

const DATA = "trec";
const TARGET = 0.9;
const EVERY_SECONDS = 10;
const CEILING = 0.2;
const dtype = "bfloat16";

/** PEFT's methods, four rates each; what is trained has 20 positions, steps have 8 examples. */
export const rates = {
  prompt: [0.003, 0.01, 0.03, 0.1],
  prefix: [0.003, 0.01, 0.03, 0.1],
  ptuning: [0.0003, 0.001, 0.003, 0.01],
} as const;
const shape = { length: 20, batch_size: 8 };
/** More than fit into the hour. */
const STEPS = 20_000;
/** Steps of Foreword's jobs; null leaves them to the defaults. */
const lengths = [60, 120, 240, null] as const;

export interface TimeToRun {
  /** `prompt/0.01`, `foreword/120`. */
  name: string;
  date: string;
  reached: boolean;
  /** Of training; where it was not reached, until it was given up. */
  seconds: number;
  looks: { step: number; seconds: number; accuracy: number }[];
}

export const runNames = (): string[] => [
  ...Object.entries(rates).flatMap(([method, each]) => each.map(rate => `${method}/${rate}`)),
  ...lengths.map(steps => `foreword/${steps ?? "default"}`),
];

/** `prompt` or `prompt/0.01`; nothing asks for all. */
export const asked = (name: string, filters: readonly string[]): boolean =>
  filters.length === 0 || filters.some(filter => name === filter || name.startsWith(`${filter}/`));

export async function timeTo(
  { threads, data: folder }: PartOptions,
  only: readonly string[],
  limitMinutes: number,
): Promise<Part> {
  for (const name of runNames().filter(each => asked(each, only) && !read(each))) {
    const [method, setting] = name.split("/") as [string, string];
    // Once a shorter job got there, a longer one says nothing.
    if (method === "foreword" && found().some(run => run.name.startsWith("foreword/") && run.reached))
      continue;
    console.log(name);
    const run =
      method === "foreword"
        ? await ownJob(folder, setting)
        : await peerTime({ folder, method, rate: Number(setting), threads, limitMinutes });
    write({ name, date: new Date().toISOString(), ...run });
    console.log(`${name}: ${run.reached ? "there" : "not there"} after ${Math.round(run.seconds)} s`);
  }
  return summary(found(), limitMinutes);
}

type Outcome = Omit<TimeToRun, "name" | "date">;

async function ownJob(folder: string, setting: string): Promise<Outcome> {
  const { train, dev, task } = readDataSet(folder, DATA);
  const product = await Product.start("training");
  try {
    await keep(product, "train", train);
    await keep(product, "dev", dev);
    const { id } = await product.post<Job>(`/tasks/${task}/train`, {
      dataset: "train",
      validation: "dev",
      seed: 1,
      ...(setting !== "default" && { steps: Number(setting) }),
    });
    const { result, log, started_at } = await ended(product, id);
    const accuracy = result!.validation!.new!;
    const last = log.filter(({ text }) => text.startsWith("step ")).at(-1)!;
    const seconds = (Date.parse(last.at) - Date.parse(started_at!)) / 1000;
    const step = Number(/^step (\d+)/.exec(last.text)![1]);
    return { reached: accuracy >= TARGET, seconds, looks: [{ step, seconds, accuracy }] };
  } finally {
    await product.stop();
  }
}

interface PeerTime {
  folder: string;
  method: string;
  rate: number;
  threads: number;
  limitMinutes: number;
}

type Said =
  | { event: "log"; text: string }
  | ({ event: "look" } & TimeToRun["looks"][number])
  | { event: "done"; seconds: number };

async function peerTime({ folder, method, rate, threads, limitMinutes }: PeerTime): Promise<Outcome> {
  const data = dataFolder("training");
  const gguf = await backboneFile("training");
  const source = await openBackbone(gguf);
  const set = readDataSet(folder, DATA);
  const { test } = testCases(set.train, set.dev);
  const run = await peerRun({
    data: { ...set, test },
    method,
    dtype,
    seed: 1,
    rate,
    settings: { ...shape, steps: STEPS },
    tokenizer: Tokenizer.from((await source.tokenizerFiles())!),
    config: source.config,
  });
  await source.close();
  const labels = run.labels.map(({ label }) => label);
  const looks = {
    everySeconds: EVERY_SECONDS,
    target: TARGET,
    limitSeconds: 60 * limitMinutes,
    examples: run.test.map((ids, index) => ({ ids, label: labels.indexOf(test[index]!.answers[0]!) })),
  };
  const path = join(data, "run.json");
  await writeFile(path, JSON.stringify({ ...run, test: [], looks }));
  const peer = new PythonPeer("learn.py", [gguf, path], threads);
  const seen: TimeToRun["looks"] = [];
  try {
    for (;;) {
      const said = await peer.receive<Said>();
      if (said.event === "done")
        return { reached: (seen.at(-1)?.accuracy ?? 0) >= TARGET, seconds: said.seconds, looks: seen };
      if (said.event === "look") {
        const { event, ...look } = said;
        seen.push(look);
        console.log(`    ${look.seconds.toFixed(0)} s, step ${look.step}: ${look.accuracy.toFixed(3)}`);
      }
    }
  } finally {
    peer.stop();
  }
}

/** The best of a side's runs; what was not there counts as the whole time. */
export function summary(runs: readonly TimeToRun[], limitMinutes: number): Part {
  const minutes = (own: boolean) =>
    runs
      .filter(({ name }) => name.startsWith("foreword/") === own)
      .map(({ reached, seconds }) => (reached ? seconds / 60 : limitMinutes));
  const [ours, theirs] = [minutes(true), minutes(false)];
  const complete = runNames().filter(name => !name.startsWith("foreword/"));
  const done = complete.filter(name => runs.some(run => run.name === name)).length;
  const figures = Object.fromEntries(
    runs.map(({ name, reached, seconds }) => [
      `to 0.90 on TREC, ${name}, min${reached ? "" : " (not there)"}`,
      summarise([reached ? seconds / 60 : limitMinutes]),
    ]),
  );
  if (ours.length === 0 || theirs.length === 0) return { checks: [], figures };
  const some = done < complete.length ? ` (${done} of ${complete.length} of its runs)` : "";
  const ratio = Math.min(...ours) / Math.min(...theirs);
  return {
    checks: [
      check(`time to 0.90 on TREC, against PEFT's best${some}`, "times", [ratio], { ceiling: CEILING }),
    ],
    figures,
  };
}

const pathOf = (name: string) => join(partsFolder, `time-to.${name.replace("/", ".")}.json`);

function read(name: string): TimeToRun | null {
  return existsSync(pathOf(name)) ? (JSON.parse(readFileSync(pathOf(name), "utf8")) as TimeToRun) : null;
}

const found = (): TimeToRun[] =>
  runNames()
    .map(read)
    .filter(run => run !== null);

function write(run: TimeToRun): void {
  mkdirSync(partsFolder, { recursive: true });
  writeFileSync(pathOf(run.name), `${JSON.stringify(run, null, 2)}\n`);
}

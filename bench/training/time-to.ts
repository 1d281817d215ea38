/**
 * The time until 0.90 of TREC's dev is answered right. Foreword runs whole jobs over HTTP, shorter ones first, and what
 * counts is the first job that ends with it, from its start to its last step, looks and loading within. PEFT's prompt
 * tuning, prefix tuning and p-tuning run at each of four learning rates and are looked at every half minute of training,
 * while their clock stands still; a run ends once it has lost, be it against Foreword (five times as long) or against
 * another of PEFT's, so that where none got there the ratio is an upper bound. Every run is kept once it is done.
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
const EVERY_SECONDS = 30;
const CEILING = 0.2;
const dtype = "bfloat16";

/** PEFT's methods, four rates each; what is trained has 20 positions, steps have 8 examples. */
export const rates = {
  prompt: [0.003, 0.01, 0.03, 0.1],
  prefix: [0.003, 0.01, 0.03, 0.1],
  ptuning: [0.0003, 0.001, 0.003, 0.01],
} as const;
const shape = { length: 20, batch_size: 8 };
/** More than fit into an hour. */
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
  ...lengths.map(steps => `foreword/${steps ?? "default"}`),
  ...Object.entries(rates).flatMap(([method, each]) => each.map(rate => `${method}/${rate}`)),
];

const isOwn = ({ name }: Pick<TimeToRun, "name">) => name.startsWith("foreword/");

/** `prompt` or `prompt/0.01`; nothing asks for all. */
export const asked = (name: string, filters: readonly string[]): boolean =>
  filters.length === 0 || filters.some(filter => name === filter || name.startsWith(`${filter}/`));

/** `limitMinutes` for one of PEFT's runs; null gives it what shows whether it has lost. */
export async function timeTo(
  { threads, data: folder }: PartOptions,
  only: readonly string[],
  limitMinutes: number | null,
): Promise<Part> {
  for (const name of runNames().filter(each => asked(each, only))) {
    const [method, setting] = name.split("/") as [string, string];
    const limitSeconds = limitOf(name, found(), limitMinutes);
    if (limitSeconds === 0) continue;
    console.log(name);
    const run =
      method === "foreword"
        ? await ownJob(folder, setting)
        : await peerTime({ folder, method, rate: Number(setting), threads, limitSeconds });
    write({ name, date: new Date().toISOString(), ...run });
    console.log(`${name}: ${run.reached ? "there" : "not there"} after ${Math.round(run.seconds)} s`);
  }
  return summary(found());
}

/** Seconds that a run may take; 0 where it would say nothing new. */
export function limitOf(name: string, runs: readonly TimeToRun[], limitMinutes: number | null): number {
  const known = runs.find(run => run.name === name);
  const ours = best(runs.filter(isOwn));
  if (isOwn({ name })) return known || ours < Number.POSITIVE_INFINITY ? 0 : Number.POSITIVE_INFINITY;
  const lost = limitMinutes === null ? ours / CEILING : 60 * limitMinutes;
  const limit = Math.min(lost, best(runs.filter(run => !isOwn(run))));
  return known && (known.reached || known.seconds >= limit) ? 0 : limit;
}

const best = (runs: readonly TimeToRun[]) =>
  Math.min(...runs.filter(({ reached }) => reached).map(({ seconds }) => seconds));

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
  limitSeconds: number;
}

type Said =
  | { event: "log"; text: string }
  | ({ event: "look" } & TimeToRun["looks"][number])
  | { event: "done"; seconds: number };

async function peerTime({ folder, method, rate, threads, limitSeconds }: PeerTime): Promise<Outcome> {
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
    tokenizer: Tokenizer.from((await source.tokenizerFiles())!, source.config.vocabSize),
    config: source.config,
  });
  await source.close();
  const labels = run.labels.map(({ label }) => label);
  const looks = {
    everySeconds: EVERY_SECONDS,
    target: TARGET,
    limitSeconds,
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

/** The best of PEFT's runs against Foreword's first that got there. */
export function summary(runs: readonly TimeToRun[]): Part {
  const figures = Object.fromEntries(
    runs.map(({ name, reached, seconds }) => [
      `to 0.90 on TREC, ${name}, min${reached ? "" : " (not there)"}`,
      summarise([seconds / 60]),
    ]),
  );
  const ours = best(runs.filter(isOwn));
  const peers = runs.filter(run => !isOwn(run));
  if (ours === Number.POSITIVE_INFINITY || peers.length === 0) return { checks: [], figures };
  const all = runNames().filter(name => !isOwn({ name })).length;
  const some = peers.length < all ? ` (${peers.length} of ${all} of its runs)` : "";
  const reached = best(peers);
  const [theirs, bound] =
    reached < Number.POSITIVE_INFINITY
      ? [reached, ""]
      : [Math.min(...peers.map(({ seconds }) => seconds)), ", which is not there yet"];
  return {
    checks: [
      check(`time to 0.90 on TREC, against PEFT's best${bound}${some}`, "times", [ours / theirs], {
        ceiling: CEILING,
      }),
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

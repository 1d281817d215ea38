/**
 * Chooses the hard prompt of each bundled task: scores every candidate on a sample of dev, fits label biases on some
 * training examples, prints a table, scores the best on more of dev, and writes prompts/<task>/task.json.
 * Test data is never read.
 *
 *   npx tsx bench/prompts/select.ts --data <folder of data sets> --mirror <folder of backbones> [--task sentiment]
 */
import { mkdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { createEngine } from "../../src/engine/host.ts";
import { ForewordError } from "../../src/errors.ts";
import { fitBias } from "../../src/training/evaluation/bias.ts";
import { type Candidate, type LibraryTask, libraryTasks } from "./candidates.ts";
import { type Example, labelCounts, readExamples, shuffled } from "./data.ts";
import { accuracy, bleu, likeliest, macroF1 } from "./measure.ts";
import { HeldPrompts, Scorer } from "./scorer.ts";

const { values: options } = parseArgs({
  options: {
    data: { type: "string", default: "data" },
    mirror: { type: "string" },
    backbone: { type: "string", default: "smollm2-135m" },
    cache: { type: "string", default: ".cache/foreword" },
    threads: { type: "string", default: "2" },
    task: { type: "string", multiple: true },
    examples: { type: "string", default: "200" },
    calibration: { type: "string", default: "150" },
    /** Of the chosen prompt. */
    "final-examples": { type: "string", default: "1000" },
    "final-calibration": { type: "string", default: "400" },
    out: { type: "string", default: "prompts" },
    results: { type: "string", default: "bench/results/prompts.json" },
  },
});

/** More labels than this are searched best first, where a bias has no place. */
const biasLabels = 32;
const maxTokens = 96;
const seed = 20;

interface Trial {
  candidate: Candidate;
  positions: number;
  raw: number;
  /** With the fitted bias; null where there is none. */
  biased: number | null;
  seconds: number;
}

type Biases = number[] | undefined;

const prompts = new HeldPrompts();
const engine = createEngine({
  backbone: options.backbone,
  data: options.cache,
  ...(options.mirror !== undefined && { mirror: options.mirror }),
  runtime: "onnx",
  threads: Number(options.threads),
  precision: "auto",
  cacheBytes: 1 << 30,
  batchTokens: 2048,
  queue: 4096,
  prompts,
  log: {
    info: (_, text) => console.error(text),
    error: (fields, text) => console.error(text, fields),
  },
});
const scorer = new Scorer(engine, prompts);

function namesOf(labels: NonNullable<Candidate["labels"]>): string[] {
  return Array.isArray(labels) ? labels : Object.keys(labels);
}

function measure(task: LibraryTask, gold: readonly string[], answers: readonly string[]): number {
  return task.metric === "macro_f1" ? macroF1(gold, answers) : accuracy(gold, answers);
}

/** The answers of a classifier for these examples, without and with a bias fitted on `calibration`. */
async function classified(
  candidate: Candidate,
  examples: readonly Example[],
  calibration: readonly Example[],
): Promise<{ raw: string[]; biased: string[] | null; bias: Biases }> {
  const names = namesOf(candidate.labels!);
  const inputs = (list: readonly Example[]) => list.map(({ input }) => input);
  const mode = names.length <= biasLabels ? "all" : "top";
  const scores = await scorer.classify(candidate, inputs(examples), mode);
  const answers = (bias?: Biases) => scores.map(row => names[likeliest(row, bias)]!);
  if (mode === "top") return { raw: answers(), biased: null, bias: undefined };
  const gold = calibration.map(({ answer }) => names.indexOf(answer));
  const bias = fitBias(await scorer.classify(candidate, inputs(calibration), "all"), gold);
  return { raw: answers(), biased: answers(bias), bias };
}

/** Greedy texts against all references of an input. */
async function generated(candidate: Candidate, examples: readonly Example[]): Promise<number> {
  const references = new Map<string, string[]>();
  for (const { input, answer } of examples) references.set(input, [...(references.get(input) ?? []), answer]);
  const texts = await scorer.generate(candidate, [...references.keys()], maxTokens);
  return bleu(texts, [...references.values()]);
}

async function attempt(
  task: LibraryTask,
  candidate: Candidate,
  dev: readonly Example[],
  calibration: readonly Example[],
): Promise<Trial & { bias: Biases }> {
  const started = performance.now();
  const positions = await scorer.length(candidate);
  const done = () => (performance.now() - started) / 1000;
  if (task.type === "generation") {
    const raw = await generated(candidate, dev);
    return { candidate, positions, raw, biased: null, seconds: done(), bias: undefined };
  }
  const gold = dev.map(({ answer }) => answer);
  const { raw, biased, bias } = await classified(candidate, dev, calibration);
  return {
    candidate,
    positions,
    raw: measure(task, gold, raw),
    biased: biased && measure(task, gold, biased),
    seconds: done(),
    bias,
  };
}

const top = ({ raw, biased }: Trial) => Math.max(raw, biased ?? raw);
const shown = (value: number | null) => (value === null ? "" : value.toFixed(value > 1 ? 2 : 3)).padStart(8);

async function select(task: LibraryTask): Promise<object> {
  const train = readExamples(options.data, task.dataset, "train");
  const dev = readExamples(options.data, task.dataset, "dev");
  const candidates = task.candidates(train);
  // What a prompt shows must not also calibrate it.
  const unseen = shuffled(train, seed).filter(
    ({ input }) => !candidates.some(({ template }) => template.includes(input)),
  );
  const sample = task.type === "generation" ? dev : shuffled(dev, seed).slice(0, Number(options.examples));
  console.log(`\n${task.id}: ${task.metric} on ${sample.length} of ${dev.length} dev examples`);
  console.log(`${"candidate".padEnd(22)}${"positions".padStart(10)}     raw  biased seconds`);
  const trials: Trial[] = [];
  for (const candidate of candidates) {
    try {
      const trial = await attempt(task, candidate, sample, unseen.slice(0, Number(options.calibration)));
      trials.push(trial);
      const { positions, raw, biased, seconds } = trial;
      const figures = `${shown(raw)}${shown(biased)}${seconds.toFixed(1).padStart(8)}`;
      console.log(`${candidate.name.padEnd(22)}${String(positions).padStart(10)}${figures}`);
    } catch (error) {
      // A prompt that the backbone's context cannot hold is no candidate.
      if (!(error instanceof ForewordError) || error.code !== "input_too_long") throw error;
      console.log(`${candidate.name.padEnd(22)} ${error.message}`);
    }
  }
  const winner = trials.reduce((found, each) => (top(each) > top(found) ? each : found));
  const rest =
    task.type === "generation" ? dev : shuffled(dev, seed).slice(0, Number(options["final-examples"]));
  return finish(task, winner, trials, rest, unseen);
}

async function finish(
  task: LibraryTask,
  { candidate }: Trial,
  trials: readonly Trial[],
  dev: readonly Example[],
  unseen: readonly Example[],
): Promise<object> {
  const { raw, biased, bias, positions } = await attempt(
    task,
    candidate,
    dev,
    unseen.slice(0, Number(options["final-calibration"])),
  );
  const names = candidate.labels && namesOf(candidate.labels);
  const keep = biased !== null && biased > raw && bias && names;
  const score = keep ? biased : raw;
  const scores = {
    metric: task.metric,
    dev: Number(score.toFixed(4)),
    majority: task.type === "generation" ? null : Number(majority(task, dev).toFixed(4)),
    examples: dev.length,
    command: `npx tsx bench/prompts/select.ts --task ${task.id} ${sizes()}`,
  };
  const active = {
    prompt: 1,
    ...(keep && { bias: Object.fromEntries(names.map((label, index) => [label, bias[index]!])) }),
  };
  const { id, type, description } = task;
  const { labels = null, template } = candidate;
  const folder = join(options.out, id);
  await mkdir(folder, { recursive: true });
  const file = { id, type, labels, description, template, active, scores };
  await writeFile(join(folder, "task.json"), `${JSON.stringify(file, null, 2)}\n`);
  console.log(`→ ${candidate.name}: dev ${shown(raw).trim()}, with bias ${shown(biased).trim() || "-"}`);
  return {
    task: id,
    metric: task.metric,
    chosen: candidate.name,
    positions,
    dev: { examples: dev.length, raw, biased, majority: scores.majority },
    candidates: trials.map(({ candidate: { name }, ...figures }) => ({ name, ...figures, bias: undefined })),
  };
}

/** The settings that a repeated run needs for the same figures. */
function sizes(): string {
  const names = ["examples", "calibration", "final-examples", "final-calibration"] as const;
  return names.map(name => `--${name} ${options[name]}`).join(" ");
}

/** What always giving the commonest label scores. */
function majority(task: LibraryTask, dev: readonly Example[]): number {
  const [[commonest]] = [...labelCounts(dev)].sort(([, a], [, b]) => b - a) as [[string, number]];
  const gold = dev.map(({ answer }) => answer);
  return measure(task, gold, new Array<string>(dev.length).fill(commonest));
}

/** The other tasks' results stay. */
async function keepResult(result: { task?: string }): Promise<void> {
  const before = JSON.parse(await readFile(options.results, "utf8").catch(() => "[]")) as { task: string }[];
  const others = before.filter(({ task }) => task !== result.task);
  await mkdir(join(options.results, ".."), { recursive: true });
  await writeFile(options.results, `${JSON.stringify([...others, result], null, 2)}\n`);
}

try {
  await engine.ready();
  for (const task of libraryTasks) {
    if (options.task && !options.task.includes(task.id)) continue;
    await keepResult(await select(task));
  }
} finally {
  await engine.close();
}

/**
 * Runs, a small JSON file each, by the version of the code that decides them. A run takes up to a quarter of an hour, so
 * those of older code stand until they are asked for again; whoever reads them says so.
 */
import { createHash } from "node:crypto";
import { existsSync, mkdirSync, readdirSync, readFileSync, renameSync, writeFileSync } from "node:fs";
import { basename, join } from "node:path";
import type { Machine } from "../harness/report.ts";
import { type Cell, isPeer, type OwnMethod } from "./cells.ts";

export interface RunRecord extends Cell {
  code: string;
  date: string;
  metric: "accuracy" | "macro_f1" | "bleu";
  /** On test: shares of 1; BLEU of 100. */
  score: number;
  /** sacrebleu's, for texts. */
  signature?: string;
  test: { examples: number; left_out: number };
  /** From the start of training to its end, validation within it; 0 for what is not trained. */
  training_seconds: number;
  /** What decided the run, and what it said of itself. */
  settings: object;
  /** Runs of before have none, and those that were computed elsewhere. */
  machine?: Machine;
}

const root = new URL("../../", import.meta.url).pathname;
/** Rooms whose code decides what a run ends with. */
const deciding = [
  "autodiff",
  "backbone",
  "compile",
  "engine",
  "gate",
  "graph",
  "prompt",
  "runtime",
  "tensor",
  "training",
];
/** What is asked, and how answers are scored. */
const protocol = ["bench/learning/data.ts", "bench/learning/score.ts"];
const own = [
  ...deciding.map(room => `src/${room}`),
  ...["train", "train-work"].map(name => `src/jobs/${name}.ts`),
  "src/server/train-request.ts",
  "prompts",
  "bench/learning/own.ts",
  ...protocol,
];
const searches = ["src/jobs/search.ts", "src/server/search.ts"];
/** What decides the runs of one method besides. */
const alone: { readonly [Method in OwnMethod]?: readonly string[] } = {
  search: searches,
  distill: [...searches, "src/server/distil-request.ts"],
  ensemble: ["src/jobs/ensemble.ts"],
};
/** Bundled prompts that were trained decide nothing: runs start from a task's first template. */
const counts = (path: string) => !/^prompts\/[^/]+\/(soft|prefix)\./.test(path);
/** Foreword lays out a peer's rows, and decides their order, number and start. */
const peers = [
  "bench/peers/learn.py",
  "bench/peers/objective.py",
  "bench/peers/model.py",
  "bench/learning/peer.ts",
  "bench/learning/peer-run.ts",
  ...protocol,
  "src/prompt",
  ...["batches", "plan", "rows", "start"].map(name => `src/training/${name}.ts`),
  "prompts",
];

/** Eight hexadecimal digits over the files that decide a method's runs. */
export function codeVersion({ method }: Pick<Cell, "method">): string {
  const hash = createHash("sha256");
  const paths = isPeer(method) ? peers : [...own, ...(alone[method] ?? [])];
  for (const path of paths.flatMap(files).filter(counts)) {
    hash
      .update(path)
      .update("\0")
      .update(readFileSync(join(root, path)))
      .update("\0");
  }
  return hash.digest("hex").slice(0, 8);
}

function files(path: string): string[] {
  if (/\.\w+$/.test(path)) return existsSync(join(root, path)) ? [path] : [];
  return readdirSync(join(root, path), { recursive: true, withFileTypes: true })
    .filter(entry => entry.isFile())
    .map(entry => join(entry.parentPath, entry.name).slice(root.length))
    .sort();
}

export class RunStore {
  readonly #folder: string;

  constructor(folder: string) {
    this.#folder = folder;
  }

  find(cell: Cell, code: string): RunRecord | null {
    const path = this.#path(cell, code);
    return existsSync(path) ? (JSON.parse(readFileSync(path, "utf8")) as RunRecord) : null;
  }

  /** The newest run of a cell by any code. */
  latest(cell: Cell): RunRecord | null {
    const before = basename(this.#path(cell, ""), ".json");
    const runs = existsSync(this.#folder)
      ? readdirSync(this.#folder).filter(name => name.startsWith(before) && name.endsWith(".json"))
      : [];
    const records = runs.map(name => JSON.parse(readFileSync(join(this.#folder, name), "utf8")) as RunRecord);
    return records.sort((a, b) => b.date.localeCompare(a.date))[0] ?? null;
  }

  /** Whole or not at all: a run may take long, and be stopped. */
  keep(record: RunRecord): void {
    mkdirSync(this.#folder, { recursive: true });
    const path = this.#path(record, record.code);
    writeFileSync(`${path}.tmp`, `${JSON.stringify(record, null, 2)}\n`);
    renameSync(`${path}.tmp`, path);
  }

  #path({ method, data, seed }: Cell, code: string): string {
    return join(this.#folder, `${method}.${data}.${seed}.${code}.json`);
  }
}

/**
 * Runs, a small JSON file each, by the version of the code that decides them. A run takes up to a quarter of an hour, so
 * those of older code stand until they are asked for again; whoever reads them says so.
 */
import { createHash } from "node:crypto";
import { existsSync, mkdirSync, readdirSync, readFileSync, renameSync, writeFileSync } from "node:fs";
import { basename, join } from "node:path";
import { type Cell, isPeer } from "./cells.ts";

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
}

const root = new URL("../../", import.meta.url).pathname;
/** Rooms whose code decides what a run ends with. */
const deciding = [
  "autodiff",
  "backbone",
  "compile",
  "engine",
  "graph",
  "prompt",
  "runtime",
  "tensor",
  "training",
];
const own = [...deciding.map(room => `src/${room}`), "src/jobs/train.ts", "src/server/train.ts", "prompts"];
/** Bundled prompts that were trained decide nothing: runs start from a task's first template. */
const counts = (path: string) => !/^prompts\/[^/]+\/(soft|prefix)\./.test(path);
/** Foreword lays out a peer's rows, and decides their order, number and start. */
const peers = [
  "bench/peers/learn.py",
  "bench/peers/objective.py",
  "bench/peers/model.py",
  "bench/learning/peer-run.ts",
  "src/prompt",
  ...["batches", "plan", "rows", "start"].map(name => `src/training/${name}.ts`),
  "prompts",
];

/** Eight hexadecimal digits over the files that decide a method's runs. */
export function codeVersion({ method }: Pick<Cell, "method">): string {
  const hash = createHash("sha256");
  for (const path of (isPeer(method) ? peers : own).flatMap(files).filter(counts)) {
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

/**
 * How well prompts learn: every method on every data set of a folder, default settings over HTTP, seeds 1 to 3, test
 * read once a run; with `--peers` PEFT's methods on the same backbone, examples and order. Runs are kept in
 * bench/results/learning and not run again, unless `--again` asks for those of older code; the table says what is
 * missing and what is older.
 *
 *     npm run bench -- learning [--data ../shared/data] [--only prefix/trec/1] [--peers] [--again] [--table]
 *
 * A machine with a GPU can compute PEFT's runs: `--elsewhere FOLDER` writes them there as NAME.run.json, and takes what
 * `python bench/peers/learn.py model.gguf NAME.run.json --answers NAME.done.json` answered.
 */
import { createHash } from "node:crypto";
import { join } from "node:path";
import { parseArgs } from "node:util";
import type { TrainSettingsRequest } from "../../src/contract/train.ts";
import { Product } from "../harness/product.ts";
import { publish, thisMachine } from "../harness/report.ts";
import { allCells, type Cell, isPeer, matches, nameOf, type OwnMethod, type PeerMethod } from "./cells.ts";
import { dataSets, hasLabels, readDataSet } from "./data.ts";
import { runOwn } from "./own.ts";
import { runPeer } from "./peer.ts";
import { picture } from "./picture.ts";
import { scoreOf } from "./score.ts";
import { codeVersion, RunStore } from "./store.ts";
import { checksOf, printTable, tabulate } from "./table.ts";

const root = new URL("../../", import.meta.url).pathname;

const options = {
  data: { type: "string", default: join(root, "../shared/data") },
  only: { type: "string", multiple: true },
  seeds: { type: "string", default: "1,2,3" },
  /** PEFT's methods too. */
  peers: { type: "boolean", default: false },
  /** Runs nothing: the table, the checks and the picture of what is there. */
  table: { type: "boolean", default: false },
  threads: { type: "string", default: "2" },
  elsewhere: { type: "string" },
  /** Runs of older code are missing runs. */
  again: { type: "boolean", default: false },
  /** To try the bench out: examples of each split, settings of training. Such runs are kept apart and published nowhere. */
  limit: { type: "string" },
  set: { type: "string", default: "{}" },
} as const;

const digest = (text: string) => createHash("sha256").update(text).digest("hex").slice(0, 6);

export async function run(args: string[]): Promise<void> {
  const { values } = parseArgs({ args, options });
  const settings = JSON.parse(values.set) as TrainSettingsRequest;
  const trial = values.limit !== undefined || Object.keys(settings).length > 0;
  const store = new RunStore(join(root, trial ? ".cache/learning-trials" : "bench/results/learning"));
  const suffix = trial ? `-${values.limit ?? "all"}-${digest(values.set)}` : "";
  const code = ({ method }: Cell) => codeVersion({ method }) + suffix;
  const find = (cell: Cell) =>
    store.find(cell, code(cell)) ?? (trial || values.again ? null : store.latest(cell));
  const sets = dataSets(values.data);
  const cells = allCells({
    data: sets,
    texts: sets.filter(set => !hasLabels(values.data, set)),
    seeds: values.seeds.split(",").map(Number),
    peers: true,
  });
  const wanted = cells.filter(
    cell => matches(cell, values.only ?? []) && (values.peers || !isPeer(cell.method)) && !find(cell),
  );
  if (!values.table) await runAll(wanted);

  const table = tabulate(cells, find, code);
  printTable(table);
  if (trial) return console.log("a trial: nothing is published");
  const { checks, missing } = checksOf(table);
  await publish({
    name: "learning",
    command: "npm run bench -- learning --peers",
    checks,
    figures: {},
    more: { table, missing },
    picture: picture(table),
    machines: [...new Set(table.flatMap(({ machines }) => machines.filter(name => name !== null)))],
  });

  async function runAll(todo: readonly Cell[]): Promise<void> {
    if (todo.length === 0) return;
    let product: Product | null = null;
    try {
      for (const [index, cell] of todo.entries()) {
        console.log(`${index + 1} of ${todo.length}: ${nameOf(cell)}`);
        const data = readDataSet(values.data, cell.data, Number(values.limit ?? Number.POSITIVE_INFINITY));
        if (isPeer(cell.method)) {
          // Side by side they would slow each other down.
          await product?.stop();
          product = null;
        } else product ??= await Product.start("learning");
        const answered = product
          ? await runOwn(product, data, cell as Cell & { method: OwnMethod }, settings)
          : await runPeer(data, cell as Cell & { method: PeerMethod }, settings, {
              threads: Number(values.threads),
              elsewhere: values.elsewhere,
            });
        if (answered === null) {
          console.log(`    written to ${values.elsewhere}`);
          continue;
        }
        const { given, trainingSeconds, settings: decided } = answered;
        const found = scoreOf(data, given);
        store.keep({
          ...cell,
          code: code(cell),
          date: new Date().toISOString(),
          metric: data.metric,
          ...found,
          test: { examples: data.test.length, left_out: data.leftOut },
          training_seconds: Math.round(trainingSeconds),
          settings: decided,
          ...(!(isPeer(cell.method) && values.elsewhere) && { machine: thisMachine() }),
        });
        console.log(`    ${data.metric} ${found.score.toFixed(4)} after ${Math.round(trainingSeconds)} s`);
      }
    } finally {
      await product?.stop();
    }
  }
}

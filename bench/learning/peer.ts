/**
 * PEFT's runs. Both sides see the same rows (src/training lays them out), in the same order, with the same objective,
 * schedule, steps and batch size: what differs is the method and who computes it (bench/peers/learn.py).
 */
import { existsSync } from "node:fs";
import { mkdir, readFile, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { openBackbone } from "../../src/backbone/source.ts";
import { Tokenizer } from "../../src/backbone/tokenizer.ts";
import type { TrainSettingsRequest } from "../../src/contract/train.ts";
import { backboneFile } from "../harness/backbone.ts";
import { dataFolder } from "../harness/product.ts";
import { PythonPeer } from "../peers/python.ts";
import { type Cell, nameOf, type PeerMethod } from "./cells.ts";
import type { DataSet } from "./data.ts";
import type { Answered } from "./own.ts";
import { type PeerRun, peerRun } from "./peer-run.ts";

/** Learning rates that are usual for each; `--set` tries others. */
const rates: Readonly<Record<PeerMethod, number>> = {
  "peft-prompt": 0.01,
  "peft-prefix": 0.01,
  "peft-lora": 1e-3,
};

/** `elsewhere` is a folder of runs that another machine computes: null until their answers are there. */
export async function runPeer(
  data: DataSet,
  cell: Cell & { method: PeerMethod },
  settings: TrainSettingsRequest,
  { threads, elsewhere }: { threads: number; elsewhere: string | undefined },
): Promise<Answered | null> {
  const { method, seed } = cell;
  const folder = dataFolder("learning");
  const gguf = await backboneFile("learning");
  const source = await openBackbone(gguf);
  try {
    const tokenizer = Tokenizer.from((await source.tokenizerFiles())!, source.config.vocabSize);
    const rate = settings.learning_rate ?? rates[method];
    const run = await peerRun({ data, method, seed, settings, rate, tokenizer, config: source.config });
    const done = elsewhere
      ? await collect(run, join(elsewhere, nameOf(cell).replaceAll("/", ".")))
      : await learn(run, gguf, join(folder, "run.json"), threads, line => console.log(`    ${line}`));
    if (done === null) return null;
    const { given, seconds, device } = done;
    const labels = run.labels.map(({ label }) => label);
    const { steps, batchSize, length } = run;
    return {
      given: given.map(each =>
        typeof each === "number" ? labels[each]! : tokenizer.decode(each, { skipSpecial: true }).trim(),
      ),
      trainingSeconds: seconds,
      settings: { method, dtype: run.dtype, rate, steps, batchSize, length, device },
    };
  } finally {
    await source.close();
  }
}

interface Done {
  event: "done";
  given: (number | number[])[];
  seconds: number;
  /** `cpu`, or the GPU's name. */
  device: string;
}

type Said = { event: "log"; text: string } | Done;

/** Answers count only for the very run that was written. */
async function collect(run: PeerRun, path: string): Promise<Done | null> {
  const [asked, answered] = [`${path}.run.json`, `${path}.done.json`];
  const text = JSON.stringify(run);
  if (existsSync(answered) && (await readFile(asked, "utf8")) === text) {
    return JSON.parse(await readFile(answered, "utf8")) as Done;
  }
  await mkdir(dirname(asked), { recursive: true });
  await writeFile(asked, text);
  return null;
}

async function learn(
  run: PeerRun,
  gguf: string,
  path: string,
  threads: number,
  log: (line: string) => void,
): Promise<Done> {
  await mkdir(dirname(path), { recursive: true });
  await writeFile(path, JSON.stringify(run));
  const peer = new PythonPeer("learn.py", [gguf, path], threads);
  try {
    for (;;) {
      const said = await peer.receive<Said>();
      if (said.event === "done") return said;
      log(said.text);
    }
  } finally {
    peer.stop();
  }
}

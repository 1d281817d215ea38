/**
 * PEFT's runs. Both sides see the same rows (src/training lays them out), in the same order, with the same objective,
 * schedule, steps and batch size: what differs is the method and who computes it (bench/peers/learn.py).
 */
import { mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { openBackbone } from "../../src/backbone/source.ts";
import { Tokenizer } from "../../src/backbone/tokenizer.ts";
import type { TrainSettingsRequest } from "../../src/contract/train.ts";
import { backboneFile } from "../harness/backbone.ts";
import { dataFolder } from "../harness/product.ts";
import { PythonPeer } from "../peers/python.ts";
import type { Cell, PeerMethod } from "./cells.ts";
import type { DataSet } from "./data.ts";
import type { Answered } from "./own.ts";
import { type PeerRun, peerRun } from "./peer-run.ts";

/** Learning rates that are usual for each; `--set` tries others. */
const rates: Readonly<Record<PeerMethod, number>> = {
  "peft-prompt": 0.01,
  "peft-prefix": 0.01,
  "peft-lora": 1e-3,
};

export async function runPeer(
  data: DataSet,
  { method, seed }: Cell & { method: PeerMethod },
  settings: TrainSettingsRequest,
  threads: number,
): Promise<Answered> {
  const folder = dataFolder("learning");
  const gguf = await backboneFile("learning");
  const source = await openBackbone(gguf);
  try {
    const tokenizer = Tokenizer.from((await source.tokenizerFiles())!);
    const rate = settings.learning_rate ?? rates[method];
    const run = await peerRun({ data, method, seed, settings, rate, tokenizer, config: source.config });
    const { given, seconds } = await learn(run, gguf, join(folder, "run.json"), threads, line =>
      console.log(`    ${line}`),
    );
    const labels = run.labels.map(({ label }) => label);
    const { steps, batchSize, length } = run;
    return {
      given: given.map(each =>
        typeof each === "number" ? labels[each]! : tokenizer.decode(each, { skipSpecial: true }).trim(),
      ),
      trainingSeconds: seconds,
      settings: { method, dtype: run.dtype, rate, steps, batchSize, length },
    };
  } finally {
    await source.close();
  }
}

type Said = { event: "log"; text: string } | { event: "done"; given: (number | number[])[]; seconds: number };

async function learn(
  run: PeerRun,
  gguf: string,
  path: string,
  threads: number,
  log: (line: string) => void,
): Promise<Extract<Said, { event: "done" }>> {
  await mkdir(join(path, ".."), { recursive: true });
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

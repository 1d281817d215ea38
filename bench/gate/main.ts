/**
 * Whether int8 learns as well as fp32: the same jobs in both precisions, on development data alone. The medians go into
 * src/gate/learned.ts, by the backbone's fingerprint.
 *
 *     npm run bench -- gate [--data ../shared/data] [--only trec,sst2] [--seeds 1,2,3] [--set '{"steps":250,"batch_size":8}']
 *
 * A run that is there is not repeated: bench/results/gate/<data>.<seed>.<precision>.json. With `--answers`, instead,
 * whether the bundled trained prompts answer alike in both.
 */
import { existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { learnsAsWell } from "../../src/gate/learned.ts";
import type { TrainJob } from "../../src/training/job.ts";
import { train } from "../../src/training/run.ts";
import { Shelf } from "../../src/training/shelf.ts";
import { summarise } from "../harness/samples.ts";
import { asNdjson, readDataSet } from "../learning/data.ts";
import { answersAlike } from "./answers.ts";
import { gateCore, type Precision, precisions } from "./core.ts";

const results = fileURLToPath(new URL("../results/gate/", import.meta.url));
const library = fileURLToPath(new URL("../../prompts/", import.meta.url));
const quiet = { progress: () => {}, log: () => {}, checkpoint: async () => {}, pause: async () => {} };

interface GateRun {
  settings: object;
  validation: number;
  examples: number;
  seconds: number;
}

export async function run(args: string[]): Promise<void> {
  const { values } = parseArgs({
    args,
    options: {
      data: { type: "string", default: "../shared/data" },
      only: { type: "string", default: "trec,sst2" },
      seeds: { type: "string", default: "1,2,3" },
      set: { type: "string", default: "{}" },
      answers: { type: "boolean", default: false },
    },
  });
  if (values.answers) return answersAlike(values.data, library);
  mkdirSync(results, { recursive: true });
  const learned: Record<string, { fp32: number; int8: number }> = {};
  for (const name of values.only.split(",")) {
    const found = { fp32: [] as number[], int8: [] as number[] };
    for (const seed of values.seeds.split(",").map(Number)) {
      for (const precision of precisions) {
        const file = join(results, `${name}.${seed}.${precision}.json`);
        if (!existsSync(file)) {
          const settings = { ...JSON.parse(values.set), seed };
          const made = await once(precision, values.data, name, settings);
          writeFileSync(file, `${JSON.stringify(made, null, 2)}\n`);
        }
        const { validation, seconds } = JSON.parse(readFileSync(file, "utf8")) as GateRun;
        console.log(`${name}, seed ${seed}, ${precision}: ${validation.toFixed(4)} in ${seconds} s`);
        found[precision].push(validation);
      }
    }
    learned[name] = { fp32: summarise(found.fp32).median, int8: summarise(found.int8).median };
  }
  console.log(JSON.stringify(learned));
  console.log(`${learnsAsWell(learned) ? "pass" : "FAIL"}  int8 learns as well as fp32, within half a point`);
}

async function once(
  precision: Precision,
  folder: string,
  name: string,
  request: TrainJob["request"],
): Promise<GateRun> {
  const data = readDataSet(folder, name);
  const known = JSON.parse(readFileSync(join(library, data.task!, "task.json"), "utf8"));
  const shelf = new Shelf();
  const opened = await gateCore(precision, shelf);
  const job: TrainJob = {
    task: { id: known.id, type: known.type, labels: known.labels, description: known.description },
    request,
    template: known.template,
    verbalizers: null,
    base: null,
    initial: null,
    teacher: null,
    examples: asNdjson(data.train),
    validation: asNdjson(data.dev),
    active: null,
    checkpoint: null,
    splitSeed: 0,
    member: 0,
    checkpointSeconds: 3600,
  };
  const started = Date.now();
  const { validation } = await train({ ...opened, shelf }, job, quiet);
  await opened.close();
  const seconds = Math.round((Date.now() - started) / 1000);
  return { settings: request, validation: validation.new, examples: data.dev.length, seconds };
}

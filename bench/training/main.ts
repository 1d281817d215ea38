/**
 * What training costs beside PEFT on torch: steps, a trainer's memory, what requests feel of it, and the time to an
 * accuracy. Each part is kept in bench/results/training and stays until it is measured again.
 *
 *     npm run bench -- training [--rounds 5] [--parts steps,memory,latency]
 *     npm run bench -- training --time-to [--only prompt/0.01]       hours; goes on where it was stopped
 */
import { parseArgs } from "node:util";
import { picture } from "../harness/picture.ts";
import { publish } from "../harness/report.ts";
import { requestLatency } from "./latency.ts";
import { trainerMemory } from "./memory.ts";
import { keepPart, type Part, type PartName, type PartOptions, partNames, readPart } from "./parts.ts";
import { stepTimes } from "./steps.ts";
import { timeTo } from "./time-to.ts";

const options = {
  rounds: { type: "string", default: "5" },
  threads: { type: "string", default: "2" },
  /** Of a sample. */
  steps: { type: "string", default: "3" },
  /** Of open-loop requests, in each round with and without a job. */
  seconds: { type: "string", default: "60" },
  parts: { type: "string", default: "steps,memory,latency" },
  "time-to": { type: "boolean", default: false },
  /** Runs of time-to: `prompt`, `prompt/0.01`, `foreword`. */
  only: { type: "string", multiple: true },
  /** Of each of PEFT's runs of time-to; by default until it has lost. */
  "limit-minutes": { type: "string" },
  data: { type: "string", default: new URL("../../../shared/data", import.meta.url).pathname },
} as const;

export async function run(args: string[]): Promise<void> {
  const { values } = parseArgs({ args, options });
  const given: PartOptions = {
    rounds: Number(values.rounds),
    threads: Number(values.threads),
    steps: Number(values.steps),
    seconds: Number(values.seconds),
    data: values.data,
  };
  const limit = values["limit-minutes"];
  const wanted = values["time-to"] ? ["time-to"] : values.parts.split(",");
  const measures: Record<PartName, () => Promise<Part>> = {
    steps: () => stepTimes(given),
    memory: trainerMemory,
    latency: () => requestLatency(given),
    "time-to": () => timeTo(given, values.only ?? [], limit === undefined ? null : Number(limit)),
  };
  for (const name of partNames.filter(each => wanted.includes(each))) {
    console.log(`\n${name}`);
    keepPart(name, await measures[name]());
  }
  const parts = partNames.map(name => [name, readPart(name)] as const);
  const there = parts.flatMap(([, part]) => (part ? [part] : []));
  const checks = there.flatMap(part => part.checks);
  await publish({
    name: "training",
    command: "npm run bench -- training; npm run bench -- training --time-to",
    checks,
    figures: Object.assign({}, ...there.map(part => part.figures)),
    more: {
      parts: Object.fromEntries(
        parts.map(([name, part]) => [name, part && { date: part.date, machine: part.machine }]),
      ),
      missing: parts.filter(([, part]) => part === null).map(([name]) => name),
    },
    picture: picture("Training", checks),
  });
}

/**
 * What requests feel of a training job: requests come at random times (Poisson) at a quarter of what the server can
 * answer, whether or not those before are answered; the wait counts from the moment that a request was due.
 */
import { setTimeout as sleep } from "node:timers/promises";
import type { Job } from "../../src/contract/job.ts";
import { randomFrom } from "../../src/engine/sampler.ts";
import { load, Product } from "../harness/product.ts";
import { check } from "../harness/report.ts";
import { quantile, ratios, summarise } from "../harness/samples.ts";
import { text } from "../serving/workload.ts";
import type { Part, PartOptions } from "./parts.ts";

const INPUT_TOKENS = 30;
const AT_ONCE = 32;
const CAPACITY_REQUESTS = 192;
const SHARE = 0.25;
const CEILING = 1.5;
/** Given a new job to load and to take its first steps. */
const START_MS = 300_000;

export async function requestLatency({ rounds, seconds }: PartOptions): Promise<Part> {
  const product = await Product.start("training");
  try {
    await product.post("/tasks", { id: "asked", labels: ["positive", "negative"] });
    await product.post("/tasks", { id: "trained", labels: ["positive", "negative"] });
    const ask = () => product.infer("asked", { input: text(INPUT_TOKENS) });
    await load(AT_ONCE, AT_ONCE, ask);
    const capacity = CAPACITY_REQUESTS / (await load(CAPACITY_REQUESTS, AT_ONCE, ask));
    const rate = SHARE * capacity;
    console.log(`capacity ${capacity.toFixed(1)} requests a second; asked at ${rate.toFixed(1)}`);
    const p99s: Record<"with" | "without", number[]> = { with: [], without: [] };
    const medians: typeof p99s = { with: [], without: [] };
    const speeds: number[] = [];
    for (let round = 1; round <= rounds; round++) {
      for (const state of round % 2 === 0 ? (["with", "without"] as const) : (["without", "with"] as const)) {
        const job = state === "with" ? await startJob(product) : null;
        const waits = await openLoop(rate, seconds, randomFrom(round), ask);
        if (job) speeds.push(await stopJob(product, job));
        p99s[state].push(quantile(waits, 0.99));
        medians[state].push(quantile(waits, 0.5));
        const [p50, p99] = [medians[state].at(-1)!, p99s[state].at(-1)!].map(Math.round);
        console.log(`round ${round}, ${state} a job: ${waits.length} requests, p50 ${p50} ms, p99 ${p99} ms`);
      }
    }
    return {
      checks: [
        check(
          "p99 of requests at a quarter of capacity with a training job, against without",
          "times",
          ratios(p99s.with, p99s.without),
          { ceiling: CEILING },
        ),
      ],
      figures: {
        "capacity, requests a second": summarise([capacity]),
        "p99 without a job, ms": summarise(p99s.without),
        "p99 with a job, ms": summarise(p99s.with),
        "median without a job, ms": summarise(medians.without),
        "median with a job, ms": summarise(medians.with),
        "training under that load, examples a second": summarise(speeds),
      },
    };
  } finally {
    await product.stop();
  }
}

/** Milliseconds from when each request was due until it was answered. */
export async function openLoop(
  rate: number,
  seconds: number,
  random: () => number,
  ask: () => Promise<unknown>,
): Promise<number[]> {
  const waits: Promise<number>[] = [];
  const started = performance.now();
  for (const due of arrivals(rate, seconds, random)) {
    const wait = started + due - performance.now();
    if (wait > 0) await sleep(wait);
    waits.push(ask().then(() => performance.now() - started - due));
  }
  return Promise.all(waits);
}

/** Milliseconds at which requests are due: a Poisson process of `rate` a second. */
export function arrivals(rate: number, seconds: number, random: () => number): number[] {
  const times: number[] = [];
  for (let at = 0; ; ) {
    at += (-Math.log(1 - random()) / rate) * 1000;
    if (at >= seconds * 1000) return times;
    times.push(at);
  }
}

/** Resolves once it takes steps. */
async function startJob(product: Product): Promise<string> {
  const examples = Array.from({ length: 256 }, (_, index) => ({
    input: text(INPUT_TOKENS + (index % 20)),
    label: index % 2 ? "positive" : "negative",
  }));
  const { id } = await product.post<Job>("/tasks/trained/train", { examples, steps: 100_000 });
  const deadline = Date.now() + START_MS;
  for (;;) {
    const job = await product.get<Job>(`/jobs/${id}`);
    if (job.ended_at !== null) throw new Error(`the job ended: ${job.error?.detail}`);
    if ((job.progress?.step ?? 0) >= 2) return id;
    if (Date.now() > deadline) throw new Error("the job takes no steps");
    await sleep(200);
  }
}

/** Its last pace. */
async function stopJob(product: Product, id: string): Promise<number> {
  const { progress, ended_at, error } = await product.get<Job>(`/jobs/${id}`);
  if (ended_at !== null) throw new Error(`the job ended while requests came: ${error?.detail}`);
  await product.delete(`/jobs/${id}`);
  return progress?.examples_per_second ?? 0;
}

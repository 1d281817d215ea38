/** The largest PSS of a trainer's process, looked at over the whole of a job that the server runs. */

import type { Example } from "../../src/contract/dataset.ts";
import type { Job } from "../../src/contract/job.ts";
import { childOf, pss } from "../harness/memory.ts";
import { Product } from "../harness/product.ts";
import { check } from "../harness/report.ts";
import { summarise } from "../harness/samples.ts";
import { text } from "../serving/workload.ts";
import type { Part } from "./parts.ts";

/** A micro-batch is as large whatever the batch: two steps of a few long examples reach what thousands would. */
const EXAMPLES = 16;
const BATCH = 4;
const STEPS = 2;
const LOOK_MS = 100;
const CEILING_GB = 3;

const labelled = (tokens: number): Example[] =>
  Array.from({ length: EXAMPLES }, (_, index) => ({
    input: text(tokens),
    label: index % 2 ? "good" : "bad",
  }));
const written = (tokens: number): Example[] =>
  Array.from({ length: EXAMPLES }, () => ({ input: text(10), output: ` ${text(tokens)}` }));

/** Data of every shape: what is short, what is long, what is written. */
const cases = {
  "labels of 40 tokens": () => labelled(40),
  "labels of 1,900 tokens": () => labelled(1900),
  "texts of 300 tokens": () => written(300),
} as const;

export async function trainerMemory(): Promise<Part> {
  const product = await Product.start("training");
  try {
    await product.post("/tasks", { id: "label", labels: ["good", "bad"] });
    await product.post("/tasks", { id: "write", type: "generation" });
    const peaks: [string, number][] = [];
    for (const method of ["prefix", "soft"]) {
      for (const [name, make] of Object.entries(cases)) {
        const examples = make();
        const task = "label" in examples[0]! ? "label" : "write";
        const request = { method, examples, steps: STEPS, batch_size: BATCH, max_tokens: 2048 };
        const peak = await peakOf(product, task, request);
        console.log(`${method}, ${name}: ${peak.toFixed(2)} GB`);
        peaks.push([`${method}, ${name}`, peak]);
      }
    }
    return {
      checks: peaks.map(([name, peak]) =>
        check(`peak PSS of a trainer, ${name}`, "GB", [peak], { ceiling: CEILING_GB }),
      ),
      figures: Object.fromEntries(
        peaks.map(([name, peak]) => [`trainer's peak PSS, ${name}, GB`, summarise([peak])]),
      ),
    };
  } finally {
    await product.stop();
  }
}

async function peakOf(product: Product, task: string, request: object): Promise<number> {
  const { id } = await product.post<Job>(`/tasks/${task}/train`, request);
  let peak = 0;
  for (;;) {
    const trainer = childOf(product.pid);
    // It may end between being found and being looked at.
    if (trainer !== null) peak = Math.max(peak, tried(() => pss(trainer)) ?? 0);
    await new Promise(resolve => setTimeout(resolve, LOOK_MS));
    const job = await product.get<Job>(`/jobs/${id}`);
    if (job.state === "succeeded") return peak / 1e9;
    if (job.ended_at !== null) throw new Error(`job ${id} ${job.state}: ${job.error?.detail}`);
  }
}

function tried<Result>(work: () => Result): Result | null {
  try {
    return work();
  } catch {
    return null;
  }
}

/**
 * What serving costs: a prompt, batching, mixing tasks; beside the llama.cpp that node-llama-cpp brings prebuilt;
 * memory, start, the event loop.
 *
 *     npm run bench -- serving [--rounds 9]
 */
import { availableParallelism } from "node:os";
import { parseArgs } from "node:util";
import { backboneFile } from "../harness/backbone.ts";
import { peakPss } from "../harness/memory.ts";
import { picture } from "../harness/picture.ts";
import { Product } from "../harness/product.ts";
import { check, publish } from "../harness/report.ts";
import { interleave, ratios, summarise } from "../harness/samples.ts";
import { LlamaCpp } from "../peers/llama.ts";
import { besidePeer } from "./beside.ts";
import { measures } from "./measures.ts";

export async function run(args: string[]): Promise<void> {
  const { values } = parseArgs({ args, options: { rounds: { type: "string", default: "9" } } });
  const rounds = Number(values.rounds);
  const starts = await startTimes(rounds);
  const llama = await LlamaCpp.start(await backboneFile("serving"), availableParallelism());
  const product = await Product.start();
  const fp32 = await Product.start("serving-fp32", { FOREWORD_PRECISION: "fp32" });
  try {
    const all = { ...(await measures(product)), ...(await besidePeer(product, fp32, llama)) };
    const samples = await interleave(rounds, all, (round, found) =>
      console.log(round === 0 ? "warm-up, not counted:" : `round ${round} of ${rounds}:`, rounded(found)),
    );
    const delays: number[] = [];
    const peaks: number[] = [];
    for (let round = 0; round < rounds; round++) {
      delays.push(await product.loopDelay(all["classify, eight tasks"]));
      delays.push(await product.loopDelay(all["generate, eight tasks"]));
      peaks.push((await peakPss(product.pid, all["generate, eight tasks"]())) / 1e9);
    }

    const ratio = (a: keyof typeof all, b: keyof typeof all) => ratios(samples[a], samples[b]);
    const checks = [
      check(
        "classification with a 100-token prompt, against none",
        "times",
        ratio("classify, 100-token prompt", "classify, no prompt"),
        { floor: 0.9 },
      ),
      check(
        "classification, 32 at once against one at a time",
        "times",
        ratio("classify, eight tasks", "classify, eight tasks, one at a time"),
        { floor: 1.25 },
      ),
      check(
        "generation, 32 at once against one at a time",
        "times",
        ratio("generate, eight tasks", "generate, eight tasks, one at a time"),
        { floor: 8 },
      ),
      check("eight tasks mixed, against one", "times", ratio("classify, eight tasks", "classify, one task"), {
        floor: 0.9,
      }),
      check(
        "prefill of 32 rows at fp32, against node-llama-cpp's prebuilt llama.cpp",
        "times",
        ratio("prefill, Foreword fp32", "prefill, llama.cpp F16"),
        { floor: 1 },
      ),
      check(
        "decode at 32 rows at fp32, against node-llama-cpp's prebuilt llama.cpp",
        "times",
        ratio("decode, Foreword fp32", "decode, llama.cpp F16"),
        { floor: 1 },
      ),
      check("ready with a warm compile cache", "s", starts, { ceiling: 5 }),
      check("PSS at 32 rows", "GB", peaks, { ceiling: 1.5 }),
      check("event-loop delay under load, p99", "ms", delays, { ceiling: 20 }),
    ];
    const figures = Object.entries(samples).map(([name, values]) => [name, summarise(values)]);
    await publish({
      name: "serving",
      command: "npm run bench -- serving",
      checks,
      figures: Object.fromEntries(figures),
      more: { llama_cpp: llama.about },
      picture: picture("Serving", checks),
    });
  } finally {
    llama.stop();
    await product.stop();
    await fp32.stop();
  }
}

const rounded = (found: Record<string, number>) =>
  Object.fromEntries(Object.entries(found).map(([name, value]) => [name, Number(value.toPrecision(3))]));

/** The first start may pull and compile; the others are what is measured, in seconds. */
async function startTimes(rounds: number): Promise<number[]> {
  const seconds: number[] = [];
  for (let start = 0; start <= rounds; start++) {
    const product = await Product.start();
    if (start > 0) seconds.push(product.readyMs / 1000);
    await product.stop();
  }
  return seconds;
}

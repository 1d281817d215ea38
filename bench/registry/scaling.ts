/** Ten thousand tasks against ten, each in a server of its own: throughput, first answers, lists, memory. */
import type { InferReply } from "../../src/contract/infer.ts";
import { pss } from "../harness/memory.ts";
import { load, Product } from "../harness/product.ts";
import { check, type Report } from "../harness/report.ts";
import { interleave, quantile, ratios, summarise } from "../harness/samples.ts";
import { text } from "../serving/workload.ts";
import { INPUT_TOKENS, isPrefix, registerMany, taskName, zipf } from "./tasks.ts";

const MANY = 10_000;
const FEW = 10;
/** Requests under way at once, and of one sample. */
const AT_ONCE = 32;
const REQUESTS = 320;
/** What every server may keep of prompts: half of the ten thousand fit, at 46 KB a position. */
const CACHE = "4GiB";
const CACHE_MB = 4096 * 1.048576;
/** Before anything is measured the most wanted are asked once, the last of them first: the cache is then as it stays. */
const WANTED = 5000;
/** Tasks whose first answers are taken, of each kind; an answer when it is warm is the median of so many. */
const FIRST = 24;
const WARM = 5;
/** What they may take beside the cache: 10,000 tasks' records, and garbage that V8 has not met yet. */
const BESIDE_MB = 150;

export async function scaling(rounds: number): Promise<Pick<Report, "checks" | "figures">> {
  const [few, many] = [
    await Product.start("registry-few", { FOREWORD_CACHE_BYTES: CACHE }),
    await Product.start("registry-many", { FOREWORD_CACHE_BYTES: CACHE }),
  ];
  try {
    await registerMany(few, FEW);
    console.log(`registering ${MANY} tasks`);
    await registerMany(many, MANY);
    const ask = (product: Product, task: number) =>
      product.infer(taskName(task), { input: text(INPUT_TOKENS) });
    const serve = (product: Product, count: number) => {
      const next = zipf(count);
      return (requests: number) => load(requests, AT_ONCE, () => ask(product, next()));
    };
    const ofFew = serve(few, FEW);
    const ofMany = serve(many, MANY);
    await ofFew(REQUESTS);
    await load(WANTED, AT_ONCE, at => many.infer(taskName(WANTED - 1 - at), { input: "good" }));
    await ofMany(REQUESTS);
    const samples = await interleave(
      rounds,
      {
        few: async () => REQUESTS / (await ofFew(REQUESTS)),
        many: async () => REQUESTS / (await ofMany(REQUESTS)),
      },
      (round, found) => console.log(round === 0 ? "warm-up, not counted:" : `round ${round}:`, found),
    );
    // Both have loaded the backbone and answered as much: what is between them is the tasks, their prompts, and the
    // buffers of the batches that computed those.
    const memory = { few: pss(few.pid), many: pss(many.pid) };
    // Of the tail, where nobody has asked before.
    const tail = Array.from({ length: MANY / 2 }, (_, at) => MANY - 1 - at);
    const prefixes = await firstAnswers(many, ask, tail.filter(isPrefix));
    const hards = await firstAnswers(
      many,
      ask,
      tail.filter(at => !isPrefix(at)),
    );
    const list = { few: await listed(few, rounds), many: await listed(many, rounds) };
    const more = (memory.many - memory.few) / 1e6;
    return {
      checks: [
        check(
          "ten thousand tasks against ten, requests a second",
          "times",
          ratios(samples.many, samples.few),
          {
            floor: 0.9,
          },
        ),
        check("a stored prefix's first answer against a warm one", "times", prefixes.ratios, {
          ceiling: 1.5,
        }),
        check(
          "a hard prompt's first answer against a warm one and its own tokens (1 + P / T)",
          "times",
          hards.ratios.map((ratio, at) => ratio / hards.bounds[at]!),
          { ceiling: 1 },
        ),
        check("a page of ten thousand tasks against all of ten", "times", ratios(list.many, list.few), {
          ceiling: 5,
        }),
        check("memory that ten thousand tasks take beside ten", "MB", [more], {
          ceiling: CACHE_MB + BESIDE_MB,
        }),
      ],
      figures: {
        "ten tasks, requests a second": summarise(samples.few),
        "ten thousand tasks, requests a second": summarise(samples.many),
        "a stored prefix's first answer, ms": summarise(prefixes.first),
        "a stored prefix's warm answer, ms": summarise(prefixes.warm),
        "a hard prompt's first answer, ms": summarise(hards.first),
        "a hard prompt's warm answer, ms": summarise(hards.warm),
        "a hard prompt's first answer against a warm one": summarise(hards.ratios),
        "1 + P / T": summarise(hards.bounds),
        "GET /tasks of ten, ms": summarise(list.few),
        "GET /tasks?limit=50 of ten thousand, ms": summarise(list.many),
        "PSS with ten tasks, MB": summarise([memory.few / 1e6]),
        "PSS with ten thousand tasks, MB": summarise([memory.many / 1e6]),
      },
    };
  } finally {
    await Promise.all([few.stop(), many.stop()]);
  }
}

/** Of tasks that were not asked yet, one request at a time. */
async function firstAnswers(
  product: Product,
  ask: (product: Product, task: number) => Promise<InferReply>,
  tasks: readonly number[],
) {
  const [first, warm, bounds]: number[][] = [[], [], []];
  for (const task of tasks.slice(0, FIRST)) {
    const timed = async () => {
      const began = performance.now();
      const { usage } = await ask(product, task);
      return { ms: performance.now() - began, usage };
    };
    const { ms } = await timed();
    const later = [];
    for (let at = 0; at < WARM; at++) later.push(await timed());
    first!.push(ms);
    warm!.push(
      quantile(
        later.map(each => each.ms),
        0.5,
      ),
    );
    const { input_tokens, cached_tokens } = later[0]!.usage;
    bounds!.push(1 + cached_tokens / (input_tokens - cached_tokens));
  }
  return { first: first!, warm: warm!, bounds: bounds!, ratios: ratios(first!, warm!) };
}

/** Milliseconds of a page of tasks, medians of as many rounds. */
async function listed(product: Product, rounds: number): Promise<number[]> {
  const medians: number[] = [];
  for (let round = 0; round < rounds; round++) {
    const times: number[] = [];
    for (let at = 0; at < 20; at++) {
      const began = performance.now();
      await product.get("/tasks?limit=50");
      times.push(performance.now() - began);
    }
    medians.push(quantile(times, 0.5));
  }
  return medians;
}

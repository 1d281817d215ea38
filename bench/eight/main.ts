/**
 * Eight tasks on one backbone against eight models of their own: one server with eight tasks, and eight servers with a
 * task each, as many requests under way in both. The eight map the same file of weights, which eight different models
 * could not: what is measured flatters them. Where a machine has other work, eight processes also get more of it than
 * one; so requests are counted by processor time as well.
 *
 *     npm run bench -- eight [--rounds 5]
 */
import { mkdir, rm, symlink } from "node:fs/promises";
import { join } from "node:path";
import { parseArgs } from "node:util";
import type { BackboneReport } from "../../src/contract/backbone.ts";
import { backboneFile } from "../harness/backbone.ts";
import { cpuSeconds, pss } from "../harness/memory.ts";
import { picture } from "../harness/picture.ts";
import { dataFolder, load, Product } from "../harness/product.ts";
import { check, publish } from "../harness/report.ts";
import { interleave, ratios, summarise } from "../harness/samples.ts";
import { prefix, text, upload } from "../serving/workload.ts";

const TASKS = 8;
/** Of the prompts, and of an input. */
const [LENGTH, TOKENS] = [50, 30];
const [REQUESTS, AT_ONCE] = [192, 32];
const name = (at: number): string => `eight-${at}`;

export async function run(args: string[]): Promise<void> {
  const { values } = parseArgs({ args, options: { rounds: { type: "string", default: "5" } } });
  const settings = { FOREWORD_BACKBONE: await backboneFile("eight") };
  const one = await Product.start("eight", settings);
  const own: Product[] = [];
  try {
    for (let at = 0; at < TASKS; at++) {
      await register(one, at);
      own.push(await model(at, settings));
    }
    const ask = (product: Product, at: number) => product.infer(name(at % TASKS), { input: text(TOKENS) });
    const worked: Record<"one" | "eight", number[]> = { one: [], eight: [] };
    const served = async (kind: "one" | "eight", products: readonly Product[]) => {
      const used = () => products.reduce((sum, { pid }) => sum + cpuSeconds(pid), 0);
      const before = used();
      const seconds = await load(REQUESTS, AT_ONCE, at => ask(products[at % products.length]!, at));
      worked[kind].push(REQUESTS / (used() - before));
      return REQUESTS / seconds;
    };
    const samples = await interleave(
      Number(values.rounds),
      { one: () => served("one", [one]), eight: () => served("eight", own) },
      (round, found) => console.log(round === 0 ? "warm-up, not counted:" : `round ${round}:`, found),
    );
    const held = { one: pss(one.pid), eight: own.reduce((sum, { pid }) => sum + pss(pid), 0) };
    const checks = [
      check(
        "memory (PSS) of eight tasks on one backbone, against eight models",
        "times",
        [held.one / held.eight],
        {
          ceiling: 0.2,
        },
      ),
      check(
        "requests a second of eight tasks on one backbone, against eight models",
        "times",
        ratios(samples.one, samples.eight),
        { floor: 0.9 },
      ),
      check(
        "requests a processor second of eight tasks on one backbone, against eight models",
        "times",
        ratios(worked.one.slice(1), worked.eight.slice(1)),
        { floor: 0.9 },
      ),
    ];
    await publish({
      name: "eight",
      command: "npm run bench -- eight",
      checks,
      figures: {
        "eight tasks on one backbone, requests a second": summarise(samples.one),
        "eight models, requests a second": summarise(samples.eight),
        "eight tasks on one backbone, requests a processor second": summarise(worked.one.slice(1)),
        "eight models, requests a processor second": summarise(worked.eight.slice(1)),
        "eight tasks on one backbone, PSS, MB": summarise([held.one / 1e6]),
        "eight models, PSS together, MB": summarise([held.eight / 1e6]),
      },
      picture: picture("Eight tasks on one backbone against eight models", checks),
    });
  } finally {
    await Promise.all([one, ...own].map(product => product.stop()));
  }
}

async function register(product: Product, at: number): Promise<void> {
  const backbone = await product.get<BackboneReport>("/backbone");
  await product.post("/tasks", { id: name(at), labels: ["positive", "negative"] });
  await upload(product, name(at), prefix(backbone, LENGTH));
}

/** A server of its own, which reads what the first one has compiled. */
async function model(at: number, settings: Record<string, string>): Promise<Product> {
  const compiled = join(dataFolder(name(at)), "compiled");
  await mkdir(dataFolder(name(at)), { recursive: true });
  await rm(compiled, { recursive: true, force: true });
  await symlink(join(dataFolder("eight"), "compiled"), compiled);
  const product = await Product.start(name(at), settings);
  await register(product, at);
  return product;
}

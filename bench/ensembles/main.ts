/**
 * What an ensemble of five costs: time and memory against one of its members, and against five models of their own,
 * each of which would cost what one does.
 *
 *     npm run bench -- ensembles [--rounds 5]
 */
import { parseArgs } from "node:util";
import type { BackboneReport } from "../../src/contract/backbone.ts";
import { pss } from "../harness/memory.ts";
import { picture } from "../harness/picture.ts";
import { load, Product } from "../harness/product.ts";
import { check, publish } from "../harness/report.ts";
import { interleave, ratios, summarise } from "../harness/samples.ts";
import { prefix, text, upload } from "../serving/workload.ts";

const MEMBERS = 5;
/** Of the prompts, and of an input. */
const [LENGTH, TOKENS] = [64, 30];
/** Requests one at a time; inputs of a request, and requests, where many come at once. */
const SINGLE = 24;
const [INPUTS, REQUESTS] = [32, 6];

export async function run(args: string[]): Promise<void> {
  const { values } = parseArgs({ args, options: { rounds: { type: "string", default: "5" } } });
  const product = await Product.start("ensembles");
  try {
    const versions = await register(product);
    const ensemble = { ensemble: versions };
    const one = versions[0]!;
    const ask = (prompt: number | typeof ensemble) => ({
      alone: () => load(SINGLE, 1, () => product.infer("vote", { input: text(TOKENS), prompt })),
      many: () =>
        load(REQUESTS, 2, () =>
          product.infer("vote", { inputs: Array.from({ length: INPUTS }, () => text(TOKENS)), prompt }),
        ),
    });
    await ask(one).many();
    const before = pss(product.pid);
    await ask(ensemble).many();
    const after = pss(product.pid);
    const measures = {
      "one prompt, one input at a time": ask(one).alone,
      "ensemble of five, one input at a time": ask(ensemble).alone,
      "one prompt, 64 inputs at once": ask(one).many,
      "ensemble of five, 64 inputs at once": ask(ensemble).many,
    };
    const samples = await interleave(Number(values.rounds), measures, (round, found) =>
      console.log(round === 0 ? "warm-up, not counted:" : `round ${round}:`, found),
    );
    const times = (kind: string) =>
      ratios(
        samples[`ensemble of five, ${kind}` as keyof typeof samples],
        samples[`one prompt, ${kind}` as keyof typeof samples],
      );
    const checks = [
      check("time of an input alone, against five models", "times", share(times("one input at a time")), {
        ceiling: 1,
      }),
      check("time of many inputs, against five models", "times", share(times("64 inputs at once")), {
        ceiling: 1.1,
      }),
      check("memory, against five models", "times", [after / (MEMBERS * before)], { ceiling: 0.3 }),
    ];
    await publish({
      name: "ensembles",
      command: "npm run bench -- ensembles",
      checks,
      figures: {
        ...Object.fromEntries(Object.entries(samples).map(([name, all]) => [`${name}, s`, summarise(all)])),
        "ensemble against one prompt, an input alone": summarise(times("one input at a time")),
        "ensemble against one prompt, many inputs": summarise(times("64 inputs at once")),
        "PSS with one prompt, GB": summarise([before / 1e9]),
        "PSS with five, GB": summarise([after / 1e9]),
      },
      picture: picture("Ensembles: five prompts over one backbone", checks),
    });
  } finally {
    await product.stop();
  }
}

/** Of what five models take: each of them takes what one prompt does. */
const share = (times: readonly number[]): number[] => times.map(value => value / MEMBERS);

/** Five prefixes of one task; what they say is of no account. */
async function register(product: Product): Promise<number[]> {
  const backbone = await product.get<BackboneReport>("/backbone");
  await product.post("/tasks", { id: "vote", labels: ["positive", "negative"] });
  const versions: number[] = [];
  for (let member = 0; member < MEMBERS; member++) {
    const { version } = await upload<{ version: number }>(product, "vote", prefix(backbone, LENGTH));
    versions.push(version);
  }
  return versions;
}

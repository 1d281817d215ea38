/**
 * What a registry costs: how soon other replicas know, what ten thousand tasks cost where ten would do.
 *
 *     npm run bench -- registry [--rounds 5] [--parts activation,operations,tasks]
 */
import { parseArgs } from "node:util";
import { picture } from "../harness/picture.ts";
import { publish, type Report } from "../harness/report.ts";
import { activation } from "./activation.ts";
import { operations } from "./operations.ts";
import { scaling } from "./scaling.ts";

interface Part {
  title: string;
  measure(rounds: number): Promise<Pick<Report, "checks" | "figures">>;
}

const parts: Record<string, Part> = {
  activation: { title: "Registry: two processes on one Redis", measure: activation },
  operations: { title: "Registry: ten thousand tasks against ten", measure: operations },
  tasks: { title: "Serving: ten thousand tasks against ten", measure: scaling },
};

export async function run(args: string[]): Promise<void> {
  const options = {
    rounds: { type: "string", default: "5" },
    parts: { type: "string", default: Object.keys(parts).join() },
  } as const;
  const { values } = parseArgs({ args, options });
  for (const name of values.parts.split(",")) {
    const part = parts[name];
    if (!part) throw new Error(`there is no part ${name}: ${Object.keys(parts).join(", ")}`);
    const found = await part.measure(Number(values.rounds));
    await publish({
      name: `registry/${name}`,
      command: `npm run bench -- registry --parts ${name}`,
      ...found,
      picture: picture(part.title, found.checks),
    });
  }
}

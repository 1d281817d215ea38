/** A bench's outcome: printed with pass or fail, written as JSON and as a picture. */
import { execFileSync } from "node:child_process";
import { mkdir, writeFile } from "node:fs/promises";
import { cpus, totalmem } from "node:os";
import { dirname } from "node:path";
import { fileURLToPath } from "node:url";
import { parse, View } from "vega";
import { compile, type TopLevelSpec } from "vega-lite";
import { type Summary, summarise } from "./samples.ts";

const results = fileURLToPath(new URL("../results/", import.meta.url));

/** One claim: a measured figure against its floor or ceiling. */
export interface Check {
  claim: string;
  unit: string;
  figure: Summary;
  floor?: number;
  ceiling?: number;
}

export const check = (
  claim: string,
  unit: string,
  samples: readonly number[],
  bound: { floor: number } | { ceiling: number },
): Check => ({ claim, unit, figure: summarise(samples), ...bound });

export const passes = ({ figure, floor, ceiling }: Check): boolean =>
  figure.median >= (floor ?? -Infinity) && figure.median <= (ceiling ?? Infinity);

export interface Report {
  name: string;
  command: string;
  checks: Check[];
  /** Everything that was measured, by name. */
  figures: Record<string, Summary>;
  /** What else the JSON tells. */
  more?: object;
  picture: TopLevelSpec;
  /** Where others than this machine may have measured: those that are known. */
  machines?: readonly string[];
}

export async function publish(told: Report): Promise<void> {
  const { name, command, checks, figures, more = {}, picture, machines } = told;
  const shown = (value: number) => (value >= 100 ? value.toFixed(0) : value.toPrecision(3));
  for (const one of checks) {
    const { claim, unit, figure, floor, ceiling } = one;
    const bound = floor !== undefined ? `at least ${floor}` : `at most ${ceiling}`;
    const found = `${shown(figure.median)} (${shown(figure.min)} to ${shown(figure.max)}) ${unit}`;
    console.log(`${passes(one) ? "pass" : "FAIL"}  ${claim}: ${found}; ${bound}`);
  }
  await mkdir(dirname(`${results}${name}`), { recursive: true });
  const report = {
    name,
    command,
    date: new Date().toISOString(),
    ...(machines ? { machines } : { machine: machine() }),
    checks: checks.map(one => ({ ...one, pass: passes(one) })),
    figures,
    ...more,
  };
  await writeFile(`${results}${name}.json`, `${JSON.stringify(report, null, 2)}\n`);
  const view = new View(parse(compile(picture).spec), { renderer: "none" });
  await writeFile(`${results}${name}.svg`, await view.toSVG());
  console.log(`written: bench/results/${name}.json and .svg`);
}

/** What a run keeps of the machine that it ran on. */
export interface Machine {
  cpu: string;
  cores: number;
}

export const thisMachine = (): Machine => ({ cpu: cpus()[0]?.model ?? "unknown", cores: cpus().length });

export const machineName = ({ cpu, cores }: Machine): string => `${cpu}, ${cores} cores`;

export function machine() {
  return {
    ...thisMachine(),
    memory_gib: Math.round(totalmem() / 2 ** 30),
    node: process.version,
    commit: execFileSync("git", ["rev-parse", "--short", "HEAD"], { encoding: "utf8" }).trim(),
  };
}

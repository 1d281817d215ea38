/** Parts of the training bench, each kept in a file of its own, so that one can be measured again alone. */
import { existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { type Check, machine } from "../harness/report.ts";
import type { Summary } from "../harness/samples.ts";

export const partNames = ["steps", "memory", "latency", "time-to"] as const;
export type PartName = (typeof partNames)[number];

export interface PartOptions {
  rounds: number;
  threads: number;
  /** Of a sample. */
  steps: number;
  /** Of open-loop requests. */
  seconds: number;
  /** A folder of data sets. */
  data: string;
}

export interface Part {
  checks: Check[];
  figures: Record<string, Summary>;
}

export interface KeptPart extends Part {
  date: string;
  machine: ReturnType<typeof machine>;
}

export const partsFolder = fileURLToPath(new URL("../results/training/", import.meta.url));

export function keepPart(name: PartName, part: Part): void {
  mkdirSync(partsFolder, { recursive: true });
  const kept: KeptPart = { date: new Date().toISOString(), machine: machine(), ...part };
  writeFileSync(join(partsFolder, `${name}.json`), `${JSON.stringify(kept, null, 2)}\n`);
}

export function readPart(name: PartName): KeptPart | null {
  const path = join(partsFolder, `${name}.json`);
  return existsSync(path) ? (JSON.parse(readFileSync(path, "utf8")) as KeptPart) : null;
}

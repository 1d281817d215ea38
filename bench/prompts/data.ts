import { readFileSync } from "node:fs";
import { join } from "node:path";

export interface Example {
  input: string;
  /** The label, or the output text. */
  answer: string;
}

export function readExamples(folder: string, dataset: string, split: "train" | "dev"): Example[] {
  return readFileSync(join(folder, dataset, `${split}.jsonl`), "utf8")
    .split("\n")
    .filter(line => line !== "")
    .map(line => {
      const { input, label, output } = JSON.parse(line) as { input: string; label?: string; output?: string };
      return { input, answer: label ?? output ?? "" };
    });
}

/** The same order for the same seed on every machine (mulberry32, Fisher and Yates). */
export function shuffled<Item>(items: readonly Item[], seed: number): Item[] {
  let state = seed >>> 0;
  const random = () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
  const list = [...items];
  for (let at = list.length - 1; at > 0; at--) {
    const other = Math.floor(random() * (at + 1));
    [list[at], list[other]] = [list[other]!, list[at]!];
  }
  return list;
}

export function labelCounts(examples: readonly Example[]): Map<string, number> {
  const counts = new Map<string, number>();
  for (const { answer } of examples) counts.set(answer, (counts.get(answer) ?? 0) + 1);
  return counts;
}

/** `perLabel` examples of every label, of ordinary length, in mixed order. */
export function shots(train: readonly Example[], perLabel: number, seed: number): Example[] {
  const taken = new Map<string, number>();
  const chosen = shuffled(train, seed).filter(({ input, answer }) => {
    const count = taken.get(answer) ?? 0;
    if (count >= perLabel || input.length < 20 || input.length > 120) return false;
    taken.set(answer, count + 1);
    return true;
  });
  return shuffled(chosen, seed + 1);
}

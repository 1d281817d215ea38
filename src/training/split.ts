/** Which examples are trained on, and which validate. */
import { createHash } from "node:crypto";
import type { Example } from "../contract/dataset.ts";
import { randomFrom } from "../engine/sampler.ts";
import { shuffled } from "./batches.ts";
import { inputKey } from "./examples.ts";

export interface Split {
  train: Example[];
  validation: Example[];
}

/** How `splitExamples` chooses; an earlier release chose by an example's place. */
export const SPLIT = 2;

/** By label; examples with outputs are one group. */
function strata(examples: readonly Example[]): Map<string, Example[]> {
  const groups = new Map<string, Example[]>();
  for (const example of examples) {
    const label = "label" in example ? example.label : "";
    const group = groups.get(label);
    if (group) group.push(example);
    else groups.set(label, [example]);
  }
  return groups;
}

/** A place in validation that a label may fill. */
interface Place {
  label: number;
  /** Its number among the label's own, from 0. */
  index: number;
  /** Without it no look would tell how the label fares. */
  needed: boolean;
  /** What the label's share of the examples leaves for it and those behind it. */
  due: number;
}

/** All but one of a label's inputs may validate; without three of them, training needs it more than a look does. */
const placesOf = (inputs: number, label: number, share: number): Place[] =>
  Array.from({ length: inputs - 1 }, (_, index) => ({
    label,
    index,
    needed: index === 0 && inputs >= 3,
    due: inputs * share - index,
  }));

/**
 * In an order drawn from each input alone. If examples are added, or another share is wanted, what validated before
 * still does, so that an earlier prompt is judged by what it was not trained on.
 */
function drawn(keys: readonly string[], seed: number): string[] {
  const chance = (key: string) => createHash("sha256").update(`${seed} ${key}`).digest().readUIntBE(0, 6);
  return keys
    .map(key => ({ key, at: chance(key) }))
    .sort((a, b) => a.at - b.at)
    .map(({ key }) => key);
}

/**
 * The share of all inputs, one at least, by label: by largest remainders, chance deciding between equal ones, and before
 * them one of each label with three inputs or more, as far as the places go. Equal inputs stay on one side, and every
 * label keeps one to be trained on.
 */
export function splitExamples(examples: readonly Example[], share: number, seed: number): Split {
  const random = randomFrom(seed);
  const labels = [...strata(examples)]
    .sort(([a], [b]) => (a < b ? -1 : 1))
    .map(([, group]) => [...new Set(group.map(inputKey))]);
  /** An input may have several labels. */
  const labelsOf = new Map<string, number[]>();
  for (const [label, keys] of labels.entries())
    for (const key of keys) labelsOf.set(key, [...(labelsOf.get(key) ?? []), label]);
  const queues = labels.map(keys => drawn(keys, seed).values());
  const places = shuffled(labels.length, random)
    .flatMap(label => placesOf(labels[label]!.length, label, share))
    .sort((a, b) => Number(b.needed) - Number(a.needed) || b.due - a.due);

  const wanted = Math.max(1, Math.round(labelsOf.size * share));
  const chosen = new Set<string>();
  const taken = labels.map(() => 0);
  const spare = (key: string) =>
    !chosen.has(key) && labelsOf.get(key)!.every(label => labels[label]!.length - taken[label]! >= 2);
  for (const { label, index } of places) {
    if (chosen.size === wanted) break;
    // An input that came with another label too has filled it.
    if (taken[label]! > index) continue;
    for (const key of queues[label]!) {
      if (!spare(key)) continue;
      chosen.add(key);
      for (const mine of labelsOf.get(key)!) taken[mine]!++;
      break;
    }
  }
  return {
    train: examples.filter(example => !chosen.has(inputKey(example))),
    validation: examples.filter(example => chosen.has(inputKey(example))),
  };
}

/** Validation without the inputs that are trained on too, which would flatter it; and those. */
export function withoutLeaks({ train, validation }: Split): { validation: Example[]; leaks: Example[] } {
  const known = new Set(train.map(inputKey));
  const leaked = (example: Example) => known.has(inputKey(example));
  return { validation: validation.filter(each => !leaked(each)), leaks: validation.filter(leaked) };
}

/**
 * At most `count` examples, every label with its share of them (systematic sampling: each label's examples are spread
 * evenly over one line, from where chance puts the first, and the line is cut).
 */
export function sample(examples: readonly Example[], count: number, seed: number): Example[] {
  if (examples.length <= count) return [...examples];
  const random = randomFrom(seed);
  const line = [...strata(examples)]
    .sort(([a], [b]) => (a < b ? -1 : 1))
    .flatMap(([, group]) => {
      const first = random();
      return shuffled(group.length, random).map((index, place) => ({
        example: group[index]!,
        at: (first + place) / group.length,
      }));
    })
    .sort((a, b) => a.at - b.at);
  const chosen = new Set(line.slice(0, count).map(({ example }) => example));
  return examples.filter(example => chosen.has(example));
}

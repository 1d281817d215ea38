/** Which examples are trained on, and which validate. */
import type { Example } from "../contract/dataset.ts";
import { randomFrom } from "../engine/sampler.ts";
import { shuffled } from "./batches.ts";
import { inputKey } from "./examples.ts";

export interface Split {
  train: Example[];
  validation: Example[];
}

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

/**
 * A share of every label's examples. Labels that are too small for it give one each, by chance, until the share of all
 * examples is there, one at least. Equal inputs stay on one side, and every label keeps one to be trained on.
 */
export function splitExamples(examples: readonly Example[], share: number, seed: number): Split {
  const random = randomFrom(seed);
  const groups = [...strata(examples)]
    .sort(([a], [b]) => (a < b ? -1 : 1))
    .map(([, group]) => [...new Set(group.map(inputKey))]);
  const chosen = new Set<string>();
  const taken = groups.map(() => 0);
  /** An input may have several labels. */
  const groupsOf = new Map<string, number[]>();
  for (const [group, keys] of groups.entries())
    for (const key of keys) groupsOf.set(key, [...(groupsOf.get(key) ?? []), group]);
  const take = (keys: readonly string[], wanted: number) => {
    let left = wanted;
    for (const key of keys) {
      if (left <= 0) return;
      const mine = groupsOf.get(key)!;
      if (chosen.has(key) || mine.some(group => groups[group]!.length - taken[group]! < 2)) continue;
      chosen.add(key);
      for (const group of mine) taken[group]!++;
      left--;
    }
  };
  const orders = groups.map((keys, group) => {
    const open = keys.filter(key => !chosen.has(key));
    const order = shuffled(open.length, random).map(index => open[index]!);
    take(order, Math.round(keys.length * share) - taken[group]!);
    return order;
  });
  const wanted = Math.max(1, Math.round(groupsOf.size * share));
  for (const group of shuffled(groups.length, random))
    if (chosen.size < wanted && taken[group] === 0) take(orders[group]!, 1);
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

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
 * A share of every label's examples, at least one where a label has several; equal inputs stay on one side. A label
 * with one example is trained on.
 */
export function splitExamples(examples: readonly Example[], share: number, seed: number): Split {
  const random = randomFrom(seed);
  const chosen = new Set<string>();
  for (const [, group] of [...strata(examples)].sort(([a], [b]) => (a < b ? -1 : 1))) {
    const keys = [...new Set(group.map(inputKey))];
    const open = keys.filter(key => !chosen.has(key));
    const already = keys.length - open.length;
    const wanted = keys.length < 2 ? 0 : Math.max(1, Math.round(keys.length * share)) - already;
    for (const index of shuffled(open.length, random).slice(0, Math.max(0, wanted))) chosen.add(open[index]!);
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

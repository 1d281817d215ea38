/**
 * New tasks made of the data at hand: other labels, other words, a few hundred rows of a development set, which no
 * bundled prompt was trained on. Some have a bundled task that does nearly the same, some have none.
 */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import type { Example } from "../../src/contract/dataset.ts";
import { parseExamples } from "../../src/training/examples.ts";

export interface Target {
  name: string;
  template: string;
  labels: string[];
  examples: Example[];
}

interface Recipe {
  dataset: string;
  template: string;
  /** The input and the new label of a row, or null where it is left out. */
  row(example: { input: string; answer: string }): { input: string; label: string } | null;
}

const renamed = (labels: Record<string, string>) => (row: { input: string; answer: string }) => ({
  input: row.input,
  label: labels[row.answer] ?? labels.other!,
});

const topics = ["card", "transfer", "top_up", "exchange", "cash", "identity"] as const;

const recipes: Record<string, Recipe> = {
  polarity: {
    dataset: "sst2",
    template: "Comment: {{ input }}\nVerdict:",
    row: renamed({ positive: "good", negative: "bad" }),
  },
  answer: {
    dataset: "trec",
    template: "Q: {{ input }}\nThe answer is a",
    row: renamed({ human: "person", location: "place", number: "number", other: "thing" }),
  },
  topic: {
    dataset: "banking77",
    template: "Customer: {{ input }}\nTopic:",
    row: ({ input, answer }) => {
      const named = answer.includes("verify") ? "identity" : topics.find(topic => answer.includes(topic));
      return named === undefined ? null : { input, label: named };
    },
  },
  guests: {
    dataset: "e2e",
    template: "Text: {{ input }}\nFor:",
    row: ({ input, answer }) => {
      const friendly = /familyFriendly\[(\w+)\]/.exec(input)?.[1];
      return friendly === undefined
        ? null
        : { input: answer, label: friendly === "yes" ? "families" : "adults" };
    },
  },
};

export const targetNames = Object.keys(recipes);

export function targetOf(folder: string, name: string): Target {
  const { dataset, template, row } = recipes[name]!;
  const read = parseExamples(readFileSync(join(folder, dataset, "dev.jsonl")));
  const examples = read.examples.flatMap(example => {
    const answer = "label" in example ? example.label : example.output;
    const made = row({ input: example.input as string, answer });
    return made === null ? [] : [made];
  });
  return { name, template, examples, labels: [...new Set(examples.map(({ label }) => label))] };
}

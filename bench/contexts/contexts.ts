/**
 * Tasks whose context is more than a sentence: long inputs, several fields, a conversation, JSON by schema, a prompt on
 * top of another. Each is made from a data set of the folder, train from train and test from test, by a seed.
 */
import type { Example } from "../../src/contract/dataset.ts";
import type { TrainSettingsRequest } from "../../src/contract/train.ts";
import { randomFrom } from "../../src/engine/sampler.ts";
import { shuffled } from "../../src/training/batches.ts";
import { type DataSet, readDataSet } from "../learning/data.ts";
import { schema, slotsOf } from "./slots.ts";

export interface Context {
  name: string;
  about: string;
  labels: Record<string, string> | null;
  /** The baseline, and what training starts from. */
  template: string;
  /** What both are stacked on. */
  base?: string;
  data: Pick<DataSet, "train" | "dev" | "test">;
  metric: "accuracy" | "slot_f1";
  jsonSchema?: Record<string, unknown>;
  settings: TrainSettingsRequest;
}

export interface Sizes {
  train: number;
  dev: number;
  test: number;
}

export const contexts: Readonly<Record<string, (folder: string, sizes: Sizes) => Context>> = {
  long,
  fields,
  conversation,
  json,
  stacked,
};

const yesNo = { yes: " yes", no: " no" };

type Labelled = { input: string; label: string };
type Split = "train" | "dev" | "test";

/** Examples of every split, made by one function from the split's own. */
function splits(
  folder: string,
  name: string,
  sizes: Sizes,
  make: (random: () => number, examples: Labelled[], index: number, split: Split) => Example,
): Context["data"] {
  const whole = readDataSet(folder, name);
  const of = (split: Split, seed: number): Example[] => {
    const test = whole.test.map(({ input, answers }) => ({ input, label: answers[0]! }));
    const examples = (split === "test" ? test : whole[split]) as Labelled[];
    const random = randomFrom(seed);
    return Array.from({ length: sizes[split] }, (_, index) => make(random, examples, index, split));
  };
  const cases = of("test", 3).map(example => ({
    input: example.input,
    answers: ["label" in example ? example.label : example.output],
  }));
  return { train: of("train", 1), dev: of("dev", 2), test: cases };
}

const pick = <Item>(items: readonly Item[], random: () => number): Item =>
  items[Math.floor(random() * items.length)]!;

/**
 * Letters of a thread of messages. What is learnt from short ones (30 to 200 tokens) holds for long ones (700 to 1,900),
 * of which 192 taught nothing in an hour.
 */
const SHORT = { least: 100, most: 600 };
const LONG = { least: 2_000, most: 5_400 };

function long(folder: string, sizes: Sizes): Context {
  return {
    name: "long",
    about: "a thread of 700 to 1,900 tokens: is there spam among the messages?",
    labels: yesNo,
    template: "{{ input }}\n\nIs one of these messages an advertisement or a fraud?",
    metric: "accuracy",
    settings: { steps: 100 },
    data: splits(folder, "sms-spam", sizes, (random, examples, index, split) => {
      const ham = examples.filter(({ label }) => label === "ham");
      const spam = examples.filter(({ label }) => label === "spam");
      const { least, most } = split === "test" ? LONG : SHORT;
      const length = least + random() * (most - least);
      const thread: string[] = [];
      while (thread.join("\n").length < length) thread.push(pick(ham, random).input);
      const bad = index % 2 === 0;
      if (bad) thread[Math.floor(random() * thread.length)] = pick(spam, random).input;
      return { input: thread.map(text => `- ${text}`).join("\n"), label: bad ? "yes" : "no" };
    }),
  };
}

function fields(folder: string, sizes: Sizes): Context {
  return {
    name: "fields",
    about: "two fields: do both customers want the same?",
    labels: yesNo,
    template:
      "First customer: {{ first }}\nSecond customer: {{ second }}\nQuestion: Do both customers want the same? yes or no\nAnswer:",
    metric: "accuracy",
    settings: { steps: 300 },
    data: splits(folder, "banking77", sizes, (random, examples, index) => {
      const first = pick(examples, random);
      const same = index % 2 === 0;
      const others = examples.filter(each => (each.label === first.label) === same && each !== first);
      const second = pick(others, random);
      return { input: { first: first.input, second: second.input }, label: same ? "yes" : "no" };
    }),
  };
}

function conversation(folder: string, sizes: Sizes): Context {
  return {
    name: "conversation",
    about: "a conversation in which the question changes: what does the last one ask for?",
    labels: {
      abbreviation: "abbreviation",
      description: "description",
      entity: "thing",
      human: "person",
      location: "place",
      number: "number",
    },
    template:
      "<|im_start|>system\nSay what the user's last question asks for: abbreviation, description, thing, person, place or number.<|im_end|>\n{{ messages }}",
    metric: "accuracy",
    settings: { steps: 300 },
    data: splits(folder, "trec", sizes, (random, examples) => {
      const [before, last] = [pick(examples, random), pick(examples, random)];
      const messages = [
        { role: "user" as const, content: before.input },
        { role: "assistant" as const, content: "I will look that up. Is there anything else?" },
        { role: "user" as const, content: `Yes, forget that. ${last.input}` },
      ];
      return { input: { messages }, label: last.label };
    }),
  };
}

function json(folder: string, sizes: Sizes): Context {
  const whole = readDataSet(folder, "e2e");
  /** A sentence of every restaurant, to its attributes. */
  const of = (pairs: readonly { input: string; text: string }[], count: number, seed: number): Example[] =>
    shuffled(pairs.length, randomFrom(seed))
      .slice(0, count)
      .map(index => {
        const { input, text } = pairs[index]!;
        return { input: text, output: ` ${JSON.stringify(slotsOf(input))}` };
      });
  const pairs = (examples: readonly Example[]) =>
    examples.map(each => ({ input: each.input as string, text: (each as { output: string }).output }));
  const test = whole.test.map(({ input, answers }) => ({ input: input as string, text: answers[0]! }));
  const shown = of(pairs(whole.train), 4, 9) as { input: string; output: string }[];
  return {
    name: "json",
    about: "a sentence about a restaurant to JSON by a schema",
    labels: null,
    template: `${shown.map(({ input, output }) => `Text: ${input}\nJSON:${output}\n\n`).join("")}Text: {{ input }}\nJSON:`,
    metric: "slot_f1",
    jsonSchema: schema,
    settings: { steps: 200 },
    data: {
      train: of(pairs(whole.train), sizes.train, 1),
      dev: of(pairs(whole.dev), sizes.dev, 2),
      test: of(test, sizes.test, 3).map(each => ({
        input: each.input,
        answers: [(each as { output: string }).output],
      })),
    },
  };
}

const HOUSE = [
  "You work at the enquiry desk of a large public library, which answers questions by letter.",
  "Be exact. Never guess: where a question can be read in two ways, take the plainer one.",
  "Abbreviations are spelled out, descriptions explain or define, things are animals, objects, works or events, persons are people and groups of them, places are cities, countries, mountains and other locations, numbers are dates, counts, sums, distances and codes.",
  "The desk sorts every letter before it is answered, by what its question asks for.",
  "",
  "",
].join("\n");

function stacked(folder: string, sizes: Sizes): Context {
  return {
    name: "stacked",
    about: "on top of another task's words: what does a question ask for?",
    labels: {
      abbreviation: " abbreviation",
      description: " description",
      entity: " thing",
      human: " person",
      location: " place",
      number: " number",
    },
    base: `${HOUSE}{{ input }}`,
    template: "Question: {{ input }}\nIt asks for a",
    metric: "accuracy",
    settings: { steps: 300 },
    data: splits(folder, "trec", sizes, (_, examples, index) => examples[index % examples.length]!),
  };
}

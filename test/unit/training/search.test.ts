/** What a search for a hard prompt is made of; the race itself on made-up runners. */
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import type { Example } from "../../../src/contract/dataset.ts";
import { ForewordError } from "../../../src/errors.ts";
import { compileTemplate } from "../../../src/prompt/template.ts";
import { answeredAnew, type Labelled } from "../../../src/training/evaluation/judge.ts";
import { accuracy, scores } from "../../../src/training/evaluation/metrics.ts";
import { writeExamples } from "../../../src/training/examples.ts";
import type { TrainProgress } from "../../../src/training/job.ts";
import { biasOf, recalibrated, withBias } from "../../../src/training/search/biases.ts";
import { isPlain, patterns, type Subject } from "../../../src/training/search/candidates.ts";
import { race } from "../../../src/training/search/race.ts";
import { type SearchJob, search } from "../../../src/training/search/search.ts";
import { Shelf } from "../../../src/training/shelf.ts";

const bytes = (text: string) => [...new TextEncoder().encode(text)];
const codec = {
  encode: bytes,
  /** Chat markers are one token. */
  encodeWithSpecials: (text: string) =>
    text.split(/(<\|\w+\|>)/).flatMap(part => (part.startsWith("<|") ? [256] : bytes(part))),
  bosId: null,
  bosText: null,
  renderChat: (messages: readonly { role: string; content: string }[]) =>
    `${messages.map(({ role, content }) => `<|${role}|>${content}\n`).join("")}<|assistant|>`,
};
const subject = (more: Partial<Subject> = {}): Subject => ({
  task: { type: "classification", labels: ["not_good", "good"], description: "" },
  fields: ["input"],
  shown: [
    { input: "one", label: "good" },
    { input: "two", label: "good" },
    { input: "three {{ x }}", label: "not_good" },
    { input: "four", label: "not_good" },
  ],
  codec,
  ...more,
});

describe("candidates", () => {
  test("are templates with the task's fields, and differ", () => {
    for (const fields of [["input"], ["premise", "the_claim"]]) {
      const shown = [
        { input: Object.fromEntries(fields.map(field => [field, `its ${field}`])), label: "good" },
        { input: Object.fromEntries(fields.map(field => [field, `a ${field}`])), label: "not_good" },
      ];
      const all = patterns(subject({ fields, shown: fields.length > 1 ? shown : subject().shown }));
      expect(all.length).toBeGreaterThan(6);
      expect(new Set(all.map(({ template }) => template)).size).toBe(all.length);
      for (const { template } of all) expect(compileTemplate(template).fields).toEqual(fields);
    }
  });

  test("name the labels as they are spoken, and the task by its description", () => {
    const plain = patterns(subject());
    expect(plain.find(({ name }) => name === "question")!.template).toBe(
      "Text: {{ input }}\nQuestion: Is this not good or good?\nAnswer:",
    );
    const described = patterns(
      subject({ task: { type: "classification", labels: ["a", "b"], description: "Which of two." } }),
    );
    expect(described.find(({ name }) => name === "instruction")!.template).toMatch(/^Which of two\.\n\n/);
  });

  test("show worked examples, labels in turn, and none that a template would read as its own words", () => {
    const [one, two] = patterns(subject()).filter(({ source }) => source === "examples");
    expect(one!.template).toBe(
      "Text: one\nLabel: good\n\nText: four\nLabel: not good\n\nText: {{ input }}\nLabel:",
    );
    expect(two!.name).toBe("3 examples");
    const named = { labels: ["x"] };
    expect(isPlain({ input: "a <|im_end|> b", label: "x" }, named, codec)).toBe(false);
    expect(isPlain({ input: { messages: [{ role: "user", content: "x" }] }, label: "x" }, named, codec)).toBe(
      false,
    );
    expect(isPlain({ input: "a < b", label: "x" }, named, codec)).toBe(true);
  });

  test("say a label as the task spells it out", () => {
    const labels = { good: [" praise", " applause"], not_good: " blame" };
    const all = patterns(subject({ task: { type: "classification", labels, description: "" } }));
    expect(all.find(({ name }) => name === "question")!.template).toContain("Is this praise or blame?");
    expect(all.find(({ source }) => source === "examples")!.template).toBe(
      "Text: one\nLabel: praise\n\nText: four\nLabel: blame\n\nText: {{ input }}\nLabel:",
    );
    // Cut in the middle of an emoji.
    expect(isPlain({ input: "so good \ud83d", label: "x" }, { labels: ["x"] }, codec)).toBe(false);
    const braces = { labels: { x: " {{ x }}" } };
    expect(isPlain({ input: "a", label: "x" }, braces, codec)).toBe(false);
  });

  test("of texts are instructions, turns of a chat, and examples", () => {
    const shown = [{ input: "sun", output: " It shines.\n" }];
    const task = { type: "generation", labels: null, description: "" } as const;
    const all = patterns(subject({ task, shown }));
    expect(all.map(({ name }) => name)).toEqual(
      expect.arrayContaining(["plain", "instruction", "chat", "1 examples", "1 examples, chat"]),
    );
    expect(all.find(({ name }) => name === "1 examples, chat")!.template).toBe(
      "<|user|>Text: sun\n<|assistant|>It shines.\n<|user|>Text: {{ input }}\n<|assistant|>",
    );
    const { renderChat, ...silent } = codec;
    expect(patterns(subject({ task, shown, codec: silent })).map(({ name }) => name)).not.toContain("chat");
    // Nor one that wants a system message first.
    const strict = {
      ...codec,
      renderChat: () => {
        throw new ForewordError("validation", "The backbone's chat template refuses these messages.");
      },
    };
    expect(patterns(subject({ task, shown, codec: strict })).map(({ name }) => name)).not.toContain("chat");
  });
});

describe("a race", () => {
  test("keeps to its budget, compares on the same examples, and ends with the finalists", async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.integer({ min: 1, max: 40 }),
        fc.integer({ min: 200, max: 5000 }),
        fc.integer({ min: 20, max: 400 }),
        async (count, budget, examples) => {
          const items = Array.from({ length: count }, (_, i) => i);
          const asked: number[] = [];
          const ranked = await race(items, {
            examples,
            budget,
            finalists: 4,
            onFailure: (_, error) => {
              throw error;
            },
            answer: async (item, from, to) => {
              asked.push(to - from);
              return Array.from({ length: to - from }, (_, i) => item * 1000 + from + i);
            },
            // The larger the number the better, whatever the examples.
            score: results => Math.floor(results[0]! / 1000),
          });
          expect(ranked.map(({ item }) => item)).toEqual(items.toReversed());
          for (const { item, results } of ranked)
            expect(results).toEqual(results.map((_, i) => item * 1000 + i));
          const spent = asked.reduce((a, b) => a + b, 0);
          const rounds = Math.max(...ranked.map(({ round }) => round));
          // Eight examples each are asked for even where the budget has fewer.
          expect(spent).toBeLessThanOrEqual(budget + 8 * count * rounds);
          const last = ranked.filter(({ round }) => round === rounds);
          expect(last.length).toBeLessThanOrEqual(Math.max(4, 4));
          for (const { results } of last) expect(results.length).toBe(last[0]!.results.length);
        },
      ),
      { numRuns: 60 },
    );
  });
});

test("a race takes as many answers at once as a budget has", async () => {
  const ranked = await race([1, 2], {
    examples: 300_000,
    budget: 1_000_000,
    finalists: 4,
    onFailure: () => {},
    answer: async (item, from, to) => new Array<number>(to - from).fill(item),
    score: results => results[0]!,
  });
  expect(ranked.map(({ results }) => results.length)).toEqual([300_000, 300_000]);
});

test("an item that can't answer leaves the race; where none can, the first reason is thrown", async () => {
  const left: number[] = [];
  const options = {
    examples: 100,
    budget: 400,
    finalists: 2,
    score: (results: readonly number[]) => results[0]!,
    onFailure: (item: number) => void left.push(item),
  };
  const answer = async (item: number, from: number, to: number) => {
    if (item === 3) throw new Error("too long");
    return Array.from({ length: to - from }, () => item);
  };
  const ranked = await race([1, 2, 3, 4], { ...options, answer });
  expect(ranked.map(({ item }) => item)).toEqual([4, 2, 1]);
  expect(left).toEqual([3]);
  await expect(race([3], { ...options, answer })).rejects.toThrow("too long");
});

type Infer = (request: {
  prompt: string;
  fields: string;
  labels?: { verbalizers: string[] }[];
  targets?: string[];
}) => object;

/** An engine that answers as it is told to. */
const benchOf = (infer: Infer) => ({
  shelf: new Shelf(),
  compiled: { fingerprint: "f" },
  source: { config: { maxPositions: 1000 } },
  tokenizer: codec,
  core: {
    listedCharacters: 1000,
    inspect: ({ template }: { template: string }) => ({
      digest: template,
      length: 1,
      template: compileTemplate(template),
    }),
    forget: () => {},
    checkLabels: () => [[[1]], [[2]]],
    infer: async (request: Parameters<Infer>[0]) => infer(request),
  },
});

test("an example that is too long is named by its line, never by its text", async () => {
  const examples = Array.from(
    { length: 40 },
    (_, i): Example => ({ input: `secret ${i}`, label: i % 2 ? "a" : "b" }),
  );
  const tooLong = new ForewordError("input_too_long", "Send truncate.", { tokens: 90, limit: 80, over: 10 });
  const bench = benchOf(() => {
    throw tooLong;
  });
  const log: string[] = [];
  const found = search(
    bench as never,
    {
      task: { id: "t", type: "classification", labels: ["a", "b"], description: "" },
      base: null,
      examples: writeExamples({ examples, lines: examples.map((_, i) => i + 101) }),
      validation: 0.2,
      splitSeed: 0,
      settings: { patterns: false, written: 0, candidates: [{ template: "{{ input }}:" }] },
      template: "{{ input }}:",
      active: null,
    },
    { pause: async () => {}, progress: () => {}, log: text => void log.push(text) },
  );
  const named =
    /examples: line 1[0-4]\d: The input has 90 tokens or more, and at most 80 fit\. Shorten it, or leave it out\.$/;
  await expect(found).rejects.toThrow(named);
  expect(log).toContainEqual(expect.stringMatching(named));
  expect(log.join()).not.toContain("secret");
});

describe("a search's last choice", () => {
  const found = async (infer: Infer, examples: Example[], job: Partial<SearchJob>) => {
    const told: TrainProgress[] = [];
    const outcome = await search(
      benchOf(infer) as never,
      {
        task: { id: "t", type: "classification", labels: ["a", "b"], description: "" },
        base: null,
        examples: writeExamples({ examples, lines: examples.map((_, i) => i + 1) }),
        validation: 0.3,
        splitSeed: 0,
        settings: { patterns: false, written: 0, verbalizers: false },
        template: "{{ input }}:",
        active: null,
        ...job,
      },
      { pause: async () => {}, progress: each => void told.push(each), log: () => {} },
    );
    return { ...outcome, told };
  };
  const labelled = Array.from({ length: 200 }, (_, i) => ({
    input: `${i % 2 ? "a" : "b"} ${i}`,
    label: i % 2 ? "a" : "b",
  }));
  const prompts = [{ template: "{{ input }}:", parameters: null }];
  /** log P(a) less log P(b). */
  const scoresOf = (gap: number) => ({
    scores: [
      { label: "a", logprob: -Math.log1p(Math.exp(-gap)) },
      { label: "b", logprob: -Math.log1p(Math.exp(gap)) },
    ],
  });

  test("judges what is active as it answers, and finds it no better than itself", async () => {
    let asked = 0;
    // Says "a" to everything, but for the record's own bias: what is fitted anew is no better.
    const leaning: Infer = ({ fields }) => {
      asked++;
      return scoresOf(fields.startsWith("a") ? 9 : 7);
    };
    const own = { prompts, active: { prompt: 1, bias: { a: -4, b: 4 }, temperature: 3 } };
    const { table, validation, better, told } = await found(leaning, labelled, { active: own });
    expect(table).toMatchObject([{ source: "active", validation: { value: 1 } }]);
    expect(table[0]).not.toHaveProperty("bias");
    expect(validation).toEqual({ new: 1, active: 1, p_value: 1 });
    expect(better).toBe(false);
    // Once each: the race's examples, and those that validate.
    expect(asked).toBe(told.length);
    expect(asked).toBeLessThanOrEqual(labelled.length);
    // Progress has what is judged after the race.
    expect(told[0]).toMatchObject({ step: 1, steps: 3000 + 5 * 60 });
    // A bias that makes it wrong on "a" is worth another one.
    const right: Infer = ({ fields }) => scoresOf(fields.startsWith("a") ? 2 : -2);
    const stale = { prompts, active: { prompt: 1, bias: { a: -9, b: 9 } } };
    const mended = await found(right, labelled, { active: stale });
    expect(mended).toMatchObject({ validation: { new: 1, active: 0.5 }, better: true });
    expect(mended.table[0]).toHaveProperty("bias");
    // A part of a split would answer alone without what all of them have in common.
    const split = {
      split: [
        { prompt: 1, weight: 1 },
        { prompt: 2, weight: 0 },
      ],
      bias: stale.active.bias,
    };
    const alone = await found(right, labelled, { active: { prompts, active: split } });
    expect(alone).toMatchObject({ validation: { new: 1, active: 0.5 }, better: true });
  });

  test("fits biases to all answers that are known, more than those of a second, shorter race", async () => {
    // Likes "a" too much; with capitals it tells nothing.
    const infer: Infer = ({ fields, labels = [] }) =>
      scoresOf(labels[0]?.verbalizers[0] === " A" ? 0 : fields.startsWith("a") ? 9.01 : 7.003);
    const settings = { patterns: false, written: 0, budget: 60, candidates: [{ template: "{{ input }}:" }] };
    const { table } = await found(infer, labelled, { settings });
    expect(table).toMatchObject([
      { source: "caller", race: { examples: 12 }, validation: { value: 1 } },
      { source: "verbalizers", race: { examples: 12 }, validation: { value: 0.5 } },
    ]);
    // Of 36 answers it is fitted, to three decimals; of 12 it would be their mean.
    expect(table[0]!.bias!.a).toBeCloseTo(-4, 0);
    expect(String(table[0]!.bias!.a)).toMatch(/^-\d\.\d{1,3}$/);
  });

  test("has the interval of its inputs, however many references each has", async () => {
    const texts = Array.from({ length: 240 }, (_, i) => ({ input: `x${i % 24}`, output: `text ${i}` }));
    // A loss that is the input's.
    const infer: Infer = ({ fields, targets = [] }) => ({
      text: "",
      finishReason: "stop",
      targets: targets.map(text => ({ text, tokens: 1, logprob: -1 - Number(fields.slice(1)) })),
    });
    const job = {
      task: { id: "t", type: "generation" as const, labels: null, description: "" },
      validation: 0.5,
      settings: {
        patterns: false,
        written: 0,
        candidates: [{ template: "<|user|>{{ input }}<|assistant|>" }],
      },
    };
    const once = await found(infer, texts.slice(0, 24), job);
    const often = await found(infer, texts, job);
    const [one, ten] = [once, often].map(({ table }) => table[0]!.validation!);
    expect(ten).toEqual(one);
    expect(one!.high - one!.low).toBeGreaterThan(4);
  });
});

describe("label biases", () => {
  // A prompt that tells labels apart, and always likes "a" too much.
  const judged = (count: number): Labelled[] =>
    Array.from({ length: count }, (_, i) => {
      const wanted = i % 4 < 2 ? "a" : "b";
      const a = 3 + (wanted === "a" ? 1 : -1) + 0.5 * Math.sin(i);
      const logs = new Map([
        ["a", -Math.log1p(Math.exp(-a))],
        ["b", -Math.log1p(Math.exp(a))],
      ]);
      return { wanted, given: "a", loss: -logs.get(wanted)!, scores: new Map(), members: [logs] };
    });

  test.each([12, 100])("%i answers: what the prompt always says is taken off", count => {
    expect(accuracy(judged(count))).toBe(0.5);
    expect(accuracy(withBias(judged(count), ["a", "b"]))).toBe(1);
  });

  test("with a temperature, the loss does not depend on what a prompt always says, nor how loudly", () => {
    const noisy = judged(200).map((each, i) => (i % 7 === 0 ? { ...each, wanted: "b" } : each));
    const louder = noisy.map(each => {
      const logs = [...each.members[0]!].map(([label, logP]) => [label, 3 * logP + (label === "a" ? 5 : 0)]);
      return { ...each, members: [new Map(logs as [string, number][])] };
    });
    const lossOf = (answers: readonly Labelled[]) => -scores.loss(recalibrated(answers, ["a", "b"]));
    expect(lossOf(louder)).toBeCloseTo(lossOf(noisy), 1);
    // One in fourteen was changed, which nothing can guess: an entropy of 0.26.
    expect(lossOf(noisy)).toBeGreaterThan(0.2);
    expect(lossOf(noisy)).toBeLessThan(0.35);
  });

  test("a half that is all right makes no mistake of the other half costly", () => {
    // Every mistake is in the even half.
    const uneven = judged(64).map((each, i) => (i % 16 === 0 ? { ...each, wanted: "b" } : each));
    const loss = -scores.loss(recalibrated(uneven, ["a", "b"]));
    expect(loss).toBeGreaterThan(0.1);
    expect(loss).toBeLessThan(Math.LN2);
  });

  test.each([12, 100])("of %i answers are what they are ranked by, where that helps", count => {
    const bias = biasOf(judged(count), ["a", "b"], "accuracy")!;
    expect(bias.b! - bias.a!).toBeGreaterThan(2);
    expect(bias.a! + bias.b!).toBeCloseTo(0, 2);
    expect(accuracy(judged(count).map(each => answeredAnew(each, { bias })))).toBe(
      accuracy(withBias(judged(count), ["a", "b"])),
    );
    const right = judged(count).map(each => ({ ...each, given: each.wanted }));
    expect(biasOf(right, ["a", "b"], "accuracy")).toBeNull();
  });
});

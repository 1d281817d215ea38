import fc from "fast-check";
import { describe, expect, test } from "vitest";
import type { Example } from "../../../src/contract/dataset.ts";
import { writePromptFile } from "../../../src/prompt/file.ts";
import { dataOf, examplesOf } from "../../../src/training/data.ts";
import {
  distinct,
  firstLineWith,
  inputKey,
  parseExamples,
  writeExamples,
} from "../../../src/training/examples.ts";
import type { TrainJob } from "../../../src/training/job.ts";
import { readExamples } from "../../../src/training/rows-of-text.ts";
import { seenElsewhere, splitOf } from "../../../src/training/seen.ts";
import { sample, splitExamples, withoutLeaks } from "../../../src/training/split.ts";

const text = async function* (...parts: string[]) {
  yield* parts;
};
const labelled = (counts: Record<string, number>): Example[] =>
  Object.entries(counts).flatMap(([label, count]) =>
    Array.from({ length: count }, (_, index) => ({ input: `${label} ${index}`, label })),
  );
const lines = (examples: readonly Example[]) => examples.map((_, index) => index + 1);
const countsOf = (examples: readonly Example[]) => {
  const counts: Record<string, number> = {};
  for (const each of examples) if ("label" in each) counts[each.label] = (counts[each.label] ?? 0) + 1;
  return counts;
};

describe("examples as text", () => {
  test.each([
    [
      "NDJSON with empty lines",
      "ndjson" as const,
      '\n{"input":"a","label":"x"}\n\n{"input":"b","label":"y"}',
      [2, 4],
    ],
    [
      "CSV with empty lines",
      "csv" as const,
      'input,label\r\n\r\n\r\na,x\r\n\r\n"b\r\nc",y\r\nd,x\r\n',
      [4, 6, 8],
    ],
    ["CSV with line breaks in a cell", "csv" as const, 'input,label\n"a\nb\nc",x\nd,y\n', [2, 5]],
  ])("%s: each stands at the line that it began at", async (_, format, file, expected) => {
    const read = await readExamples(text(file), format);
    expect(read.lines).toEqual(expected);
    const kept = writeExamples(read);
    expect(parseExamples(kept)).toEqual(read);
    // What is kept is NDJSON for anybody else too.
    expect((await readExamples(text(Buffer.from(kept).toString()), "ndjson")).examples).toEqual(
      read.examples,
    );
  });
});

describe("CSV", () => {
  test("has any line breaks, in cells and between rows, in however many parts it comes", async () => {
    const cell = fc
      .array(fc.constantFrom("a", "b", ",", '"', "\r", "\n", "\r\n"), { maxLength: 6 })
      .map(parts => `x${parts.join("")}`);
    const ending = fc.constantFrom("\r\n", "\n", "\r", "\n\n", "\r\n\r\n", "\r\n\n");
    const rows = fc.array(fc.tuple(cell, fc.boolean(), ending), { minLength: 1, maxLength: 12 });
    await fc.assert(
      fc.asyncProperty(rows, fc.array(fc.nat(200), { maxLength: 8 }), async (all, cuts) => {
        let file = "input,label\n";
        const expected = { examples: [] as Example[], lines: [] as number[] };
        for (const [input, quoted, end] of all) {
          const plain = !quoted && !/[",\r\n]/.test(input);
          expected.lines.push((file.match(/\r\n|\r|\n/g) ?? []).length + 1);
          expected.examples.push({ input, label: "y" });
          file += `${plain ? input : `"${input.replaceAll('"', '""')}"`},y${end}`;
        }
        const places = [0, ...cuts.filter(at => at < file.length).sort((a, b) => a - b), file.length];
        const parts = places.slice(1).map((at, i) => file.slice(places[i], at));
        expect(await readExamples(text(...parts), "csv")).toEqual(expected);
      }),
      { numRuns: 500 },
    );
  });

  const many = Array.from({ length: 3998 }, (_, i) => `text ${i},x\n`).join("");
  test.each([
    ["a quote that closes too early", '"a"b,x\nc,y\n'],
    ["a quote in a plain cell", 'a "b" c,x\nc,y\n'],
    ["a quote that nothing closes", '"a,x\nc,y\n'],
  ])("%s is named by the line that its row begins at, however many rows stand before it", async (_, bad) => {
    await expect(readExamples(text(`input,label\n${many}${bad}`), "csv")).rejects.toMatchObject({
      code: "bad_dataset",
      message: expect.stringMatching(/^Line 4000: it is no CSV: a quote /),
      fields: { line: 4000 },
    });
    const broken = `input,label\r\n"a\r\nb",x\r\n\r\n\r\n${bad}`;
    await expect(readExamples(text(broken), "csv")).rejects.toMatchObject({ fields: { line: 6 } });
  });

  test.each([
    ["input;label", 'read as "input;label"'],
    ["input\tlabel", 'read as "input\\tlabel"'],
    ["Input,Label", 'read as "Input", "Label"'],
    ["sep=,\ninput,label", 'read as "sep=", ""'],
    ["input,label,", 'read as "input", "label", ""'],
  ])("the header %j is refused with what was read and what is wanted", async (head, found) => {
    const read = readExamples(text(`${head}\na,x,\n`), "csv");
    await expect(read).rejects.toThrow(/must name one column "label" or "output".*with commas between/);
    await expect(read).rejects.toThrow(found);
  });
});

test("a CSV that comes as lines of JSON is known by its header", async () => {
  for (const head of ["input,label", '"title","text","output"\r'])
    await expect(readExamples(text(`${head}\na,x\n`), "ndjson")).rejects.toThrow(
      /^Line 1: it is not JSON .* looks like the header of a CSV, .* text\/csv or with format csv/,
    );
  const broken = readExamples(text('{"input":"a","label"\n'), "ndjson");
  await expect(broken).rejects.toThrow(/^Line 1: it is not JSON (?!.*CSV)/);
  for (const start of ["[\n", "{\n"])
    await expect(readExamples(text(`${start}  "input": "a"\n`), "ndjson")).rejects.toThrow(
      /one object a line/,
    );
});

test.each([
  ['{"input":"a","label":1}', '"label" must be a text'],
  ['{"input":"a","output":null}', '"output" must be a text'],
  ['{"input":{"a":"x","b":2},"label":"x"}', '"b" in "input" must be a text'],
  ['{"input":7,"label":"x"}', '"input" must be a text or an object of texts'],
  [
    '{"input":{"messages":[{"role":"user","content":"a"},{"role":"function","content":"b"}]},"label":"x"}',
    'message 2 of "messages" in "input" must be {"role": "system", "user", "assistant" or "tool"',
  ],
  [
    '[{"input":"a","label":"x"}]',
    'it is no object such as {"input": "…", "label": "…"}; send one object a line',
  ],
  [`{"input":"a","label":"${"x".repeat(257)}"}`, '"label" has more than 256 characters'],
])("%s: the member that is wrong is named", async (line, reason) => {
  await expect(readExamples(text(line), "ndjson")).rejects.toThrow(`Line 1: ${reason}`);
});

test("an input is one in whatever form it comes, and counts once with the same answer", () => {
  const same: Example["input"][] = ["hello", " hello\n", { input: "hello" }, { text: "hello " }];
  const [first, ...others] = same.map(input => ({ input, label: "a" }));
  for (const each of others) expect(inputKey(each)).toBe(inputKey(first!));
  const pairs: Example["input"][] = [
    { a: "x", b: "y" },
    { b: "y ", a: " x" },
  ];
  expect(new Set(pairs.map(input => inputKey({ input, label: "a" }))).size).toBe(1);
  const turns = [{ messages: [{ role: "user" as const, content: "hello" }] }, "hello", { a: "x", b: "z" }];
  expect(new Set([...turns, ...pairs].map(input => inputKey({ input, label: "a" }))).size).toBe(4);
  const other = { input: "hello", label: "b" };
  expect(distinct([first!, ...others, other])).toEqual([first, other]);
});

test("of any number of bad lines ten are listed; more examples than a million are refused at the next one", async () => {
  async function* lines(line: string, thousands: number) {
    for (let sent = 0; sent < thousands; sent++) yield line.repeat(1000);
  }
  await expect(readExamples(lines("a\n", 50), "ndjson")).rejects.toMatchObject({
    code: "bad_dataset",
    fields: { line: 1, count: 50_000, errors: { length: 10 } },
  });
  await expect(readExamples(lines('{"input":"a","label":"x"}\n', 1001), "ndjson")).rejects.toMatchObject({
    code: "bad_dataset",
    fields: { line: 1_000_001 },
  });
}, 60_000);

describe("split", () => {
  test("every label gives its share, at least one of three; a lone example is trained on", () => {
    const { train, validation } = splitExamples(labelled({ a: 100, b: 20, c: 4, d: 1 }), 0.1, 7);
    expect(countsOf(validation)).toEqual({ a: 10, b: 2, c: 1 });
    expect(countsOf(train)).toEqual({ a: 90, b: 18, c: 3, d: 1 });
  });

  test("is the one that it was: what is trained again is validated on the same", () => {
    const all = Array.from({ length: 500 }, (_, i) => ({
      input: `text ${i}`,
      label: "abbcccddddeeeeeffffff"[i % 21]!,
    }));
    const chosen = new Set(splitExamples(all, 0.1, 3).validation);
    expect(all.flatMap((each, i) => (chosen.has(each) ? [i] : []))).toEqual([
      1, 7, 10, 15, 33, 49, 53, 64, 69, 75, 119, 124, 138, 145, 153, 154, 166, 175, 183, 186, 228, 240, 252,
      267, 297, 298, 313, 318, 321, 326, 335, 338, 368, 375, 382, 389, 390, 395, 396, 398, 401, 406, 423, 425,
      441, 442, 444, 451, 472, 490,
    ]);
  });

  test("many labels of few examples each give no more than the share", () => {
    const all = labelled(Object.fromEntries(Array.from({ length: 77 }, (_, i) => [`l${i}`, 2])));
    const { train, validation } = splitExamples(all, 0.1, 0);
    expect([train.length, validation.length]).toEqual([139, 15]);
    expect(Object.keys(countsOf(train))).toHaveLength(77);
    expect(splitExamples(labelled({ a: 2, b: 2 }), 0.1, 0).validation).toHaveLength(1);
  });

  test("the share is of all examples, however small the labels are", () => {
    const rounded: [number, number, number, number][] = [
      [150, 5, 0.1, 75],
      [150, 6, 0.1, 90],
      [2, 25, 0.1, 5],
      [77, 5, 0.3, 116],
      [3, 2, 0.5, 3],
      [40, 2, 0.5, 40],
    ];
    for (const [many, each, share, expected] of rounded) {
      const all = labelled(Object.fromEntries(Array.from({ length: many }, (_, i) => [`l${i}`, each])));
      const { train, validation } = splitExamples(all, share, 1);
      expect([many, each, validation.length]).toEqual([many, each, expected]);
      expect(Object.keys(countsOf(train))).toHaveLength(many);
      // Labels of one size differ by one at most.
      const counts = Object.values(countsOf(validation));
      expect(Math.max(...counts) - (counts.length < many ? 0 : Math.min(...counts))).toBeLessThanOrEqual(1);
    }
  });

  test("rare labels are looked at too, at the cost of the others; where places run out, the larger of them are", () => {
    expect(countsOf(splitExamples(labelled({ a: 990, b: 4, c: 2 }), 0.1, 0).validation)).toEqual({
      a: 99,
      b: 1,
    });
    const rare = Object.fromEntries(Array.from({ length: 10 }, (_, i) => [`r${i}`, 3]));
    const { validation } = splitExamples(labelled({ a: 90, ...rare }), 0.1, 0);
    expect(validation).toHaveLength(12);
    expect(countsOf(validation)).toMatchObject(
      Object.fromEntries(Object.keys(rare).map(label => [label, 1])),
    );
    const many = Object.fromEntries(Array.from({ length: 30 }, (_, i) => [`l${i}`, i < 12 ? 5 : 3]));
    const chosen = countsOf(splitExamples(labelled(many), 0.1, 0).validation);
    expect(Object.keys(chosen).map(label => many[label])).toEqual(Array(11).fill(5));
    const by = (seed: number) => Object.keys(countsOf(splitExamples(labelled(rare), 0.1, seed).validation));
    expect(by(0)).toHaveLength(3);
    expect(by(0)).not.toEqual(by(1));
  });

  test("an input of two labels takes no label's last example from training", () => {
    const pairs = ["x:a", "y:a", "x:b", "z:c", "w:c"].map(pair => pair.split(":"));
    const all = pairs.map(([input, label]) => ({ input: input!, label: label! }));
    for (let seed = 0; seed < 50; seed++) {
      const { train, validation } = splitExamples(all, 0.5, seed);
      expect(Object.keys(countsOf(train)).sort()).toEqual(["a", "b", "c"]);
      expect(validation.map(({ input }) => input)).not.toContain("x");
      expect(validation.length).toBeGreaterThan(0);
    }
  });

  test("a seed decides it, and another one another", () => {
    const all = labelled({ a: 40, b: 40 });
    expect(splitExamples(all, 0.2, 1)).toEqual(splitExamples(all, 0.2, 1));
    expect(splitExamples(all, 0.2, 1)).not.toEqual(splitExamples(all, 0.2, 2));
  });

  test("what validated goes on to where examples were added, their order is another, or the share is larger", () => {
    const inputs = (examples: readonly Example[]) => new Set(examples.map(({ input }) => input));
    const before = splitExamples(labelled({ a: 300, b: 200 }), 0.1, 0);
    const stays = (after: { train: Example[] }) => {
      const trained = inputs(after.train);
      return before.validation.filter(({ input }) => !trained.has(input)).length / before.validation.length;
    };
    const grown = labelled({ a: 360, b: 240, c: 10 }).toReversed();
    expect(stays(splitExamples(grown, 0.1, 0))).toBeGreaterThan(0.85);
    expect(stays(splitExamples(grown, 0.3, 0))).toBe(1);
    expect(stays(splitExamples(grown, 0.1, 1))).toBeLessThan(0.4);
  });

  test("equal inputs stay on one side, so a split never leaks", () => {
    const all = [...labelled({ a: 30, b: 30 }), ...labelled({ a: 30, b: 30 })];
    for (let seed = 0; seed < 5; seed++)
      expect(withoutLeaks(splitExamples(all, 0.3, seed)).leaks).toEqual([]);
  });

  test("inputs that differ by white space at their ends are one", () => {
    const train: Example[] = [{ input: "Fine.", label: "a" }];
    const validation: Example[] = [
      { input: " Fine.\n", label: "a" },
      { input: "Bad.", label: "b" },
    ];
    expect(withoutLeaks({ train, validation })).toEqual({
      validation: [validation[1]],
      leaks: [validation[0]],
    });
  });
});

describe("a sample", () => {
  test("has as many as are asked for, and every label's share of them", () => {
    expect(countsOf(sample(labelled({ a: 600, b: 300, c: 100 }), 50, 3))).toEqual({ a: 30, b: 15, c: 5 });
    for (const seed of [1, 2, 3]) {
      const some = countsOf(sample(labelled({ a: 101, b: 47, c: 9 }), 64, seed));
      expect(Object.values(some).reduce((sum, each) => sum + each, 0)).toBe(64);
      for (const [label, of] of Object.entries({ a: 101, b: 47, c: 9 }))
        expect(Math.abs(some[label]! - (64 * of) / 157)).toBeLessThan(1.5);
    }
  });

  test("is not empty where every label has one example", () => {
    const one = labelled(Object.fromEntries(Array.from({ length: 150 }, (_, index) => [`l${index}`, 1])));
    expect(sample(one, 128, 1)).toHaveLength(128);
    expect(sample(one, 128, 1)).toEqual(sample(one, 128, 1));
    expect(sample(one, 128, 1)).not.toEqual(sample(one, 128, 2));
    expect(sample(one, 150, 1)).toEqual(one);
  });
});

describe("a run's data", () => {
  const job = (examples: Example[], validation: Example[] | number): TrainJob => ({
    task: { id: "t", type: "classification", labels: ["a", "b"], description: "" },
    request: {},
    template: "{{ input }}:",
    verbalizers: null,
    base: null,
    initial: null,
    teacher: null,
    examples: writeExamples({ examples, lines: lines(examples) }),
    validation:
      typeof validation === "number"
        ? validation
        : writeExamples({ examples: validation, lines: lines(validation) }),
    active: null,
    checkpoint: null,
    splitSeed: 0,
    member: 0,
    checkpointSeconds: 30,
  });

  test("says what repeats, what contradicts, what leaks, and on which lines", () => {
    const told: string[] = [];
    const some = labelled({ a: 3, b: 3 });
    const examples = [...some, some[0]!, { input: "a 1", label: "b" }];
    const validation = [{ input: "new", label: "a" }, some[2]!, some[5]!];
    const data = dataOf(job(examples, validation), line => told.push(line));
    expect(told).toEqual([
      "examples: 1 of them (line 7) repeat an earlier one",
      "examples: 1 of them (line 8) have an input that came with another label before",
      "validation: 2 of them (lines 2, 3) are among the training examples too; they are left out of validation",
      'validation: none has the label "b"',
    ]);
    expect(data.validation).toEqual([validation[0]]);
    expect(data.validationField).toBe("validation");
    expect(data.train.map(data.lineOf)).toEqual(lines(examples));
  });

  test("a validation example that repeats another counts once", () => {
    const told: string[] = [];
    const new4 = ["p", "q", "p ", "p"].map(input => ({ input, label: "a" }));
    const other = { input: "p", label: "b" };
    const { validation } = dataOf(job(labelled({ a: 3, b: 3 }), [...new4, other]), line => told.push(line));
    expect(validation).toEqual([new4[0], new4[1], other]);
    expect(told).toEqual([
      "validation: 2 of them (lines 3, 4) repeat an earlier one; an example counts once",
    ]);
  });

  test("of very many validation examples some thousands are judged, every label's share of them", () => {
    const told: string[] = [];
    const own = labelled({ a: 3000, b: 1500 }).map(each => ({ ...each, input: `new ${each.input}` }));
    const { validation } = dataOf(job(labelled({ a: 3, b: 3 }), own), line => told.push(line));
    expect(countsOf(validation)).toEqual({ a: 2667, b: 1333 });
    expect(told).toEqual(["validation: of 4500 examples 4000 are judged, by label and chance"]);
  });

  test("examples alone, which donors answer, have the task's labels too", () => {
    const { task, ...rest } = job(labelled({ a: 3, gone: 1 }), 0.2);
    expect(() => examplesOf({ ...rest, task })).toThrow(/^examples: line 4: the label "gone" is none/);
  });

  test("the line of a label is found among the kept rows, whatever else says the same", () => {
    const odd: Example[] = [
      { input: 'he wrote "label":"x"', label: "a" },
      { input: { label: "x", text: "t" }, label: "a" },
      { input: "c", label: "x" },
    ];
    expect(firstLineWith("x", writeExamples({ examples: odd, lines: [2, 3, 7] }))).toBe(7);
    expect(firstLineWith("a", writeExamples({ examples: odd, lines: [2, 3, 7] }))).toBe(2);
  });

  test("is unfair to compare by where another seed chose what validates", () => {
    const some = job(labelled({ a: 30, b: 30 }), 0.2);
    const trained = (recipe: unknown) => ({
      template: "{{ soft(1) }}{{ input }}:",
      parameters: writePromptFile({
        kind: "soft",
        template: "{{ soft(1) }}{{ input }}:",
        backbone: "b",
        recipe,
        soft: { dims: [1, 2], data: new Float32Array(2) },
      }),
    });
    const against = (recipe: unknown, more: Partial<TrainJob> = {}) =>
      seenElsewhere({ ...some, active: { prompts: [trained(recipe)], active: { prompt: 2 } }, ...more });
    expect(seenElsewhere(some)).toBe(false);
    const alike = { split_seed: 0, split: splitOf({ validation: 0.2 }) };
    expect(against(null)).toBe(false);
    expect(against(alike)).toBe(false);
    expect(against(alike, { validation: 0.1 })).toBe(false);
    expect(against(alike, { validation: 0.3 })).toBe(true);
    expect(against(alike, { validation: job([], []).examples })).toBe(false);
    expect(against({ ...alike, split_seed: 3 })).toBe(true);
    expect(against({ split_seed: 0 })).toBe(true);
    expect(against({ split_seed: 0, split: splitOf({ validation: job([], []).examples }) })).toBe(true);
    expect(seenElsewhere({ ...some, initial: trained({ ...alike, split_seed: 3 }) })).toBe(true);
  });

  test("inputs that don't fill the template's fields are listed by their lines, before anything else is done", () => {
    const some = labelled({ a: 20, b: 20 });
    const fields = { ...job(some, 0.1), template: "{{ a }} {{ b }}:" };
    expect(() => dataOf(fields, () => {})).toThrow(/^examples: line 1: .*2 fields.*39 more lines/);
    const cells = some.map(({ input, ...rest }, i) => ({
      input: { a: input as string, b: i === 4 || i === 30 ? " " : "x" },
      ...rest,
    })) as Example[];
    const empty = { ...job(cells, 0.1), template: fields.template };
    expect(() => dataOf(empty, () => {})).toThrow(/^examples: line 5: Field "b" is empty.*1 more lines/);
    const own = { ...job(some, [some[0]!, { input: { a: "x" }, label: "a" }]) };
    expect(() => dataOf(own, () => {})).toThrow(/^validation: line 2: /);
  });

  test("labels that nothing is trained on, or looked at, are named", () => {
    const told: string[] = [];
    const some = job(labelled({ a: 9, b: 9 }), 0.1);
    const task = { ...some.task, labels: ["a", "b", "c", "d"] };
    dataOf({ ...some, task }, line => told.push(line));
    expect(told).toEqual(['examples: none to train on has the labels "c", "d"']);
    told.length = 0;
    const labels = [..."abcdefgh"];
    const few = job(labelled({ a: 20, ...Object.fromEntries(labels.slice(1).map(each => [each, 2])) }), 0.01);
    dataOf({ ...few, task: { ...few.task, labels } }, line => told.push(line));
    expect(told).toEqual(['validation: none has the labels "b", "c", "d", "e", "f" and 2 more']);
  });

  test("many lines are counted, and the first of them listed", () => {
    const told: string[] = [];
    const some = labelled({ a: 10, b: 10 });
    dataOf(job([...some, ...some.slice(0, 8)], 0.2), line => told.push(line));
    expect(told[0]).toBe("examples: 8 of them (lines 21, 22, 23, 24, 25 and 3 more) repeat an earlier one");
  });

  test.each<[string, Example[], Example[] | number, RegExp]>([
    ["one label", labelled({ a: 9 }), 0.1, /label "a".*two labels/],
    ["nothing left to validate with", labelled({ a: 1, b: 1 }), 0.1, /left to validate/],
    ["validation that is trained on", labelled({ a: 2, b: 2 }), labelled({ a: 1 }), /left to validate/],
  ])("%s is refused", (_, examples, validation, reason) => {
    expect(() => dataOf(job(examples, validation), () => {})).toThrow(reason);
  });
});

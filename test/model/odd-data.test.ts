/** Jobs whose data one prompt can't answer, on tiny backbones: what can be done is done, and the log says what was not. */
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, test } from "vitest";
import type { Example } from "../../src/contract/dataset.ts";
import { openCore } from "../../src/engine/open.ts";
import type { ForewordError } from "../../src/errors.ts";
import { readPromptFile } from "../../src/prompt/file.ts";
import type { Bench } from "../../src/training/begin.ts";
import { combine } from "../../src/training/evaluation/ensemble.ts";
import { label } from "../../src/training/evaluation/judge.ts";
import { evaluate } from "../../src/training/evaluation/report.ts";
import { writeExamples } from "../../src/training/examples.ts";
import type { TrainJob, TrainProgress } from "../../src/training/job.ts";
import { train } from "../../src/training/run.ts";
import { search } from "../../src/training/search/search.ts";
import { Shelf } from "../../src/training/shelf.ts";
import { tinyBackbone } from "../support/tiny.ts";

const closing: (() => Promise<void>)[] = [];
afterAll(async () => {
  for (const close of closing) await close();
});

async function bench(name: "llama" | "gpt2", changes: object): Promise<Bench> {
  const cache = await mkdtemp(join(tmpdir(), "foreword-odd-data-"));
  const tiny = await tinyBackbone(name, false, changes);
  const shelf = new Shelf();
  const opened = await openCore(
    {
      backbone: tiny.path,
      cache,
      runtime: "onnx",
      threads: 1,
      precision: "fp32",
      cacheBytes: 2 ** 27,
      batchTokens: 512,
      queue: 4096,
    },
    shelf,
    () => {},
  );
  closing.push(async () => {
    await opened.close();
    await tiny.remove();
    await rm(cache, { recursive: true });
  });
  return { ...opened, shelf };
}

const hooks = () => {
  const lines: string[] = [];
  const checkpoints: Uint8Array[] = [];
  return {
    lines,
    checkpoints,
    signal: new AbortController().signal,
    progress: () => {},
    log: (text: string) => void lines.push(text),
    checkpoint: async (bytes: Uint8Array) => void checkpoints.push(bytes),
    pause: async () => {},
  };
};

const bytesOf = (examples: Example[]) =>
  writeExamples({ examples, lines: examples.map((_, index) => index + 1) });
/** Of so many words of three tokens or four. */
const example = (index: number, words: number): Example => ({
  input: `w${index} ${"abc ".repeat(words)}`.trim(),
  label: index % 2 ? "good" : "bad",
});
const some = (count: number, words: number) =>
  Array.from({ length: count }, (_, index) => example(index, words));
const task = { id: "t", type: "classification" as const, labels: ["good", "bad"], description: "" };

describe("a search", () => {
  const template = "Text: {{ input }}\nLabel:";
  const searched = async (
    on: Bench,
    examples: Example[],
    settings: object,
    active: TrainJob["active"] = null,
  ) => {
    const heard = hooks();
    const job = {
      task,
      base: null,
      examples: bytesOf(examples),
      validation: 0.3,
      splitSeed: 0,
      settings: { seed: 0, ...settings },
      template,
      active,
    };
    return { ...(await search(on, job, heard)), lines: heard.lines };
  };

  test("of a backbone without a chat template races all the others", async () => {
    const { table } = await searched(await bench("gpt2", {}), some(60, 0), { budget: 100 });
    const sources = new Set(table.map(({ source }) => source));
    expect(sources).toContain("pattern");
    expect(table.every(({ name }) => !/chat/.test(name))).toBe(true);
  });

  test("goes on without the candidates that have no room for an example", async () => {
    const on = await bench("llama", { max_position_embeddings: 512 });
    const examples = some(60, 2);
    for (const index of [7, 21, 40]) examples[index] = example(index, 100);
    const { table, lines } = await searched(on, examples, { budget: 400, written: 0 });
    expect(lines.join("\n")).toMatch(/is left out: .*tokens/);
    expect(table[0]!.validation).not.toBeNull();
    // The pool's examples that a prompt has no room for tell nothing of labels' words.
    for (const seed of [0, 3])
      expect((await searched(on, examples, { budget: 64, written: 0, seed })).table.length).toBeGreaterThan(
        0,
      );
  });

  test("without candidates races what is active alone; where nothing is, there is none", async () => {
    const on = await bench("llama", {});
    const none = { budget: 100, patterns: false, written: 0, verbalizers: false };
    const active = { prompts: [{ template, parameters: null }], active: { prompt: 1 } };
    const { table } = await searched(on, some(60, 0), none, active);
    expect(table).toMatchObject([{ rank: 1, source: "active", template }]);
    await expect(searched(on, some(60, 0), none)).rejects.toMatchObject({ code: "validation" });
  });

  test("writes instructions from as many examples as fit", async () => {
    const on = await bench("llama", { max_position_embeddings: 512 });
    const { table } = await searched(on, some(60, 25), { budget: 100 });
    expect(table.length).toBeGreaterThan(0);
  });
});

describe("training", () => {
  const training = (more: object): TrainJob => ({
    task,
    request: { steps: 2, length: 4 },
    template: "{{ input }} is",
    verbalizers: null,
    base: null,
    initial: null,
    teacher: null,
    examples: bytesOf(some(20, 2)),
    validation: bytesOf([
      ...Array.from({ length: 8 }, (_, index) => example(100 + index, 2)),
      example(7, 130),
    ]),
    active: null,
    checkpoint: null,
    splitSeed: 0,
    member: 0,
    checkpointSeconds: 30,
    ...more,
  });
  const long = {
    prompts: [{ template: `${"abc ".repeat(55)}{{ input }} is`, parameters: null }],
    active: { prompt: 1 },
  };

  test("keeps a prompt that can't be compared with what is active, and says why", async () => {
    const on = await bench("llama", { max_position_embeddings: 512 });
    const heard = hooks();
    const { validation, file } = await train(on, training({ active: long }), heard);
    expect(file.length).toBeGreaterThan(0);
    expect(validation).toMatchObject({ new: expect.any(Number), active: null, p_value: null });
    expect(heard.lines.join("\n")).toMatch(/what is active can't be compared: validation: line 9: .*fit/);

    const short = { prompts: [{ template: "{{ input }} is", parameters: null }], active: { prompt: 2 } };
    expect((await train(on, training({ active: short }), hooks())).validation.active).not.toBeNull();

    const two = { prompts: [...short.prompts, ...short.prompts], active: { ensemble: [2, 3] } };
    const { examples, validation: looked } = training({});
    const together = { task, examples, validation: looked, splitSeed: 0, ensemble: two, active: long };
    const report = await combine(on, { ...together, metric: "accuracy" }, hooks());
    expect(report).toMatchObject({ agreement: 1, validation: { active: null } });
  });

  test("refuses at once what no look could answer: more characters than are encoded", async () => {
    const on = await bench("llama", { max_position_embeddings: 512 });
    const wide = { input: `w ${"abcdefgh".repeat(500)}`, label: "good" };
    const heard = hooks();
    const job = training({ examples: bytesOf(some(20, 2)), validation: bytesOf([example(9, 3), wide]) });
    await expect(train(on, job, heard)).rejects.toThrow(/^validation: line 2: .*4002 characters/);
    expect(heard.lines.join()).not.toContain("training");
  });

  test("asks a teacher again where the task's labels have changed since it answered", async () => {
    const on = await bench("llama", { max_position_embeddings: 512 });
    const teacher = { template: "abc {{ input }} is", parameters: null };
    const job = training({ teacher, validation: 0.3 });
    const first = hooks();
    await train(on, job, first);
    const [answers] = first.checkpoints;
    const asked = async (labels: string[]) => {
      const heard = hooks();
      await train(on, { ...job, task: { ...task, labels }, checkpoint: answers! }, heard);
      return heard.lines.filter(line => line.startsWith("the teacher answers")).length;
    };
    expect(await asked(["good", "bad"])).toBe(0);
    expect(await asked(["bad", "good"])).toBe(1);
  });

  describe("looks for examples that are too long before what takes long:", () => {
    const asking = /the teacher answers|trying/;
    const refused = async (on: Bench, job: TrainJob, why: RegExp) => {
      const heard = hooks();
      const refusal = { code: "bad_dataset", message: expect.stringMatching(why) };
      await expect(train(on, job, heard)).rejects.toMatchObject(refusal);
      expect(heard.lines.join("\n")).not.toMatch(asking);
    };
    const few = [...some(20, 2), example(21, 20)];

    test("a teacher's answers; what just fits behind it is answered", async () => {
      const on = await bench("llama", { max_position_embeddings: 512 });
      const teacher = { template: `${"abc ".repeat(40)}{{ input }} is`, parameters: null };
      const answers = (words: number) =>
        label({ ...on, task, prompts: [teacher], active: {} }, [example(21, words)]).then(
          () => true,
          () => false,
        );
      let words = 60;
      while (await answers(words + 1)) words++;
      const distilling = (count: number) =>
        training({ teacher, validation: 0.3, examples: bytesOf([...some(20, 2), example(21, count)]) });
      await refused(on, distilling(words + 1), /^examples: line 21: /);
      const { distillation } = await train(on, distilling(words), hooks());
      expect(distillation).toMatchObject({ length: 4 });
      // Nor does any answer make it fit behind what is trained.
      const request = { steps: 2, length: 4, max_tokens: 30 };
      const inputs = few.map(({ input }) => ({ input, label: "none of the task's" }));
      await refused(
        on,
        { ...distilling(0), request, examples: bytesOf(inputs) },
        /^examples: line 21: .*at most 30 fit/,
      );
      const texts = { ...task, type: "generation" as const, labels: null };
      const outputs = few.map(({ input }) => ({ input, output: "abc ".repeat(100) }));
      await refused(
        on,
        { ...distilling(0), task: texts, request, examples: bytesOf(outputs) },
        /^examples: line 21: .*at most 30 fit/,
      );
    });

    test("a search for a donor", async () => {
      const on = await bench("llama", { max_position_embeddings: 512 });
      const request = { steps: 2, init: "donor" as const, max_tokens: 30 };
      await refused(
        on,
        training({ request, validation: 0.3, examples: bytesOf(few) }),
        /^examples: line 21: .*at most 30 fit/,
      );
    });
  });

  test("keeps what its teacher has said so far, tells how far it is, and ends in the same bits", async () => {
    const on = await bench("llama", { max_position_embeddings: 512 });
    const teacher = { template: "abc {{ input }} is", parameters: null };
    const job = training({
      teacher,
      // The steps read all that there are.
      request: { steps: 2, length: 4, batch_size: 300 },
      validation: 0.1,
      examples: bytesOf(some(600, 1)),
      checkpointSeconds: 0,
    });
    const told: TrainProgress[] = [];
    const first = { ...hooks(), progress: (each: TrainProgress) => void told.push(each) };
    const whole = await train(on, job, first);
    const answering = told.filter(({ loss }) => loss === null);
    expect(answering.map(({ step }) => step)).toEqual(Array.from({ length: 600 }, (_, i) => i + 1));
    expect(new Set(answering.map(({ steps }) => steps))).toEqual(new Set([600]));
    const partly = hooks();
    const resumed = await train(on, { ...job, checkpoint: first.checkpoints[0]! }, partly);
    expect(partly.lines).toContain("the teacher answers the last 344 of 600 inputs");
    expect(readPromptFile(resumed.file).prefix).toEqual(readPromptFile(whole.file).prefix);
    // Seldom kept, it is kept at its end.
    const seldom = hooks();
    await train(on, { ...job, checkpointSeconds: 3600 }, seldom);
    const done = hooks();
    await train(on, { ...job, checkpoint: seldom.checkpoints[0]! }, done);
    expect(done.lines.join("\n")).not.toContain("the teacher answers");
  });

  test("asks its teacher once for an input, and for no more inputs than the steps read", async () => {
    const on = await bench("llama", { max_position_embeddings: 512 });
    const twice = (examples: Example[]) =>
      bytesOf([...examples, ...examples.map(each => ({ ...each, label: "bad" }))]);
    const heard = hooks();
    await train(
      on,
      training({
        teacher: { template: "abc {{ input }} is", parameters: null },
        request: { steps: 2, length: 4, batch_size: 4 },
        examples: twice(some(20, 2)),
        validation: twice(Array.from({ length: 4 }, (_, index) => example(100 + index, 2))),
      }),
      heard,
    );
    expect(heard.lines).toEqual(
      expect.arrayContaining([
        "of 20 inputs the teacher answers 8, by chance: the steps read no more",
        "the teacher answers 12 inputs",
      ]),
    );
  });
});

test("an evaluation for labels that the task no longer has names the lines", async () => {
  const on = await bench("llama", { max_position_embeddings: 512 });
  const job = {
    task: { ...task, labels: ["good", "poor"] },
    contestants: [
      { name: "1", prompt: 1, prompts: [{ template: "{{ input }} is", parameters: null }], active: {} },
    ],
    examples: bytesOf(some(6, 1)),
    settings: { calibrate: true },
  };
  const error = await evaluate(on, job, hooks()).catch((thrown: ForewordError) => thrown);
  expect(error).toMatchObject({ code: "bad_dataset", fields: { line: 1, count: 3, field: "examples" } });
  expect((error as Error).message).toMatch(/"bad" is none of the task's.*good, poor/);
});

/** Requests that ask for much: what one run can't hold takes several, with the same answers, or is refused in time. */
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, onTestFinished, test, vi } from "vitest";
import type { Example } from "../../src/contract/dataset.ts";
import type { Labels } from "../../src/contract/task.ts";
import { boundFields, fitRow } from "../../src/engine/fit.ts";
import { restacked } from "../../src/prompt/stack.ts";
import { compileTemplate } from "../../src/prompt/template.ts";
import { judge } from "../../src/training/evaluation/judge.ts";
import { write } from "../../src/training/evaluation/write.ts";
import type { TaskPrompt } from "../../src/training/job.ts";
import type { Plan } from "../../src/training/plan.ts";
import { contextOf, layOut } from "../../src/training/rows.ts";
import type { Shelf } from "../../src/training/shelf.ts";
import { describeBackbone } from "../support/backbone.ts";
import { sharedCache } from "../support/compiled.ts";
import { classifyRequest, generateRequest, openCore, type TestCore } from "../support/core.ts";
import { type TinyBackbone, tinyBackbone } from "../support/tiny.ts";

describeBackbone("requests that ask for much", path => {
  let core: TestCore;
  beforeAll(async () => {
    core = await openCore(path, sharedCache());
  });
  afterAll(() => core.close());

  const story = (lines: number) =>
    Array.from(
      { length: lines },
      (_, line) => ` Line ${line} says that ${line * line} lamps were sold.`,
    ).join("");

  test("targets that are too many tokens for one run score as they do alone", async () => {
    const prompt = core.prompt("{{ input }}");
    const targets = [story(25), story(30), " The end."];
    const lengths = targets.map(text => core.tokenizer.encode(text).length);
    expect(lengths[0]!).toBeLessThan(512);
    expect(lengths[0]! + lengths[1]!).toBeGreaterThan(512);
    const input = "What was sold?";
    const scored = async (texts: string[]) => {
      const written = await core.infer(generateRequest(prompt, input, { targets: texts, maxTokens: 4 }));
      const labelled = await core.infer(
        classifyRequest(prompt, input, { yes: " yes", no: " no" }, { targets: texts }),
      );
      for (const [at, { logprob }] of labelled.targets!.entries())
        expect(Math.abs(logprob - written.targets![at]!.logprob)).toBeLessThan(1e-2);
      return { targets: written.targets!, text: written.text, scores: labelled.scores };
    };
    const together = await scored(targets);
    expect(together.targets.map(({ tokens }) => tokens)).toEqual(lengths);
    for (const [at, text] of targets.entries()) {
      const alone = await scored([text]);
      expect(Math.abs(alone.targets[0]!.logprob - together.targets[at]!.logprob)).toBeLessThan(1e-2);
      expect(alone.text).toBe(together.text);
      for (const [label, { logprob }] of alone.scores.entries())
        expect(Math.abs(logprob - together.scores[label]!.logprob)).toBeLessThan(1e-3);
    }
  }, 120_000);

  test("labels whose texts are too many tokens for one run have all their probabilities", async () => {
    const prompt = core.prompt("{{ input }}\nTopic:");
    const words = ["lamp", "chair", "table", "order", "refund", "parcel", "invoice", "voucher"];
    // Pairs of words before a third: hundreds of nodes, each a path of several tokens.
    const texts = words.flatMap(a =>
      words.flatMap(b => ["late", "lost"].map(c => ` the ${a} and the ${b} are ${c}`)),
    );
    const labels = Object.fromEntries(texts.map((text, at) => [`label ${at}`, text]));
    const { scores } = await core.infer(classifyRequest(prompt, "My lamp has not come.", labels));
    expect(scores).toHaveLength(texts.length);
    expect(scores.reduce((sum, { logprob }) => sum + Math.exp(logprob), 0)).toBeCloseTo(1, 4);
    const settle = ["label 3", scores[0]!.label, scores.at(-1)!.label];
    const top = await core.infer(
      classifyRequest(prompt, "My lamp has not come.", labels, { scores: "top", settle }),
    );
    for (const label of settle) {
      const of = (found: typeof scores) => found.find(each => each.label === label)!.logprob;
      expect(Math.abs(of(top.scores) - of(scores))).toBeLessThan(1e-3);
    }
  }, 120_000);

  test("as many labels as a task may have, of ordinary lengths, are taken", () => {
    const labels = Array.from({ length: 1024 }, (_, at) => ({
      label: `label-${at}`,
      verbalizers: [` a text of number ${at}, as long as they are`, ` another one, of number ${at} too`],
    }));
    expect(core.core.checkLabels(labels)).toHaveLength(1024);
  });

  test("a text that can't fit is refused before it is encoded, or cut first", async () => {
    const prompt = core.prompt("{{ input }}\nTopic:");
    const labels = { yes: " yes", no: " no" };
    const { maxPositions } = core.config;
    const huge = "a".repeat(20_000_000);
    const started = performance.now();
    for (const request of [
      classifyRequest(prompt, huge, labels),
      classifyRequest(prompt, "short", labels, { targets: [huge] }),
      generateRequest(prompt, "short", { choices: [huge] }),
    ])
      await expect(core.infer(request)).rejects.toMatchObject({
        code: "input_too_long",
        fields: { limit: maxPositions },
      });
    // It takes minutes and gigabytes to encode.
    expect(performance.now() - started).toBeLessThan(5000);
  });

  test("a text that is cut first is left with the tokens of the whole one", () => {
    const { tokenizer } = core;
    const encode = (text: string) => tokenizer.encode(text);
    const text = story(60);
    for (const side of ["start", "end"] as const)
      for (const room of [20, 63]) {
        const cut = boundFields(text, ["input"], 64, encode, side) as string;
        expect(cut.length).toBe(6 * 64);
        const fitted = (ids: number[]) => fitRow([{ ids, field: "input" }], room, side);
        expect(fitted(encode(cut))).toEqual(fitted(encode(text)));
      }
  });

  test("no text is encoded for long, whatever its characters", async () => {
    const prompt = core.prompt("{{ messages }}");
    const content = "a".padEnd(2_000_000);
    const messages = Array.from({ length: 8 }, () => ({ role: "user", content }));
    const used = process.cpuUsage();
    await expect(core.infer({ ...generateRequest(prompt, ""), fields: { messages } })).rejects.toMatchObject({
      code: "input_too_long",
      fields: { limit: core.config.maxPositions },
    });
    expect(process.cpuUsage(used).user / 1e6).toBeLessThan(2);
  });

  test("a choice is whole, however few tokens are allowed", async () => {
    const prompt = core.prompt("{{ input }}\nAnswer:");
    const choices = [" it was sent to the wrong address", " it was never sent"];
    const { text, finishReason } = await core.infer(
      generateRequest(prompt, "Where is it?", { choices, maxTokens: 1 }),
    );
    expect(choices).toContain(text);
    expect(finishReason).toBe("stop");
  });

  test("a caller's time is over also while a prompt is being read; others still get it", async () => {
    const digest = core.prompt("Something that nobody has asked before: {{ input }}\nAnswer:");
    let read = () => {};
    const loading = new Promise<void>(resolve => {
      read = resolve;
    });
    core.reading(digest, loading);
    const request = generateRequest(digest, "x", { maxTokens: 2 });
    const late = core.core.infer(request, { ...core.far(), deadline: Date.now() + 100 });
    const patient = core.infer(request);
    await expect(late).rejects.toMatchObject({ code: "deadline" });
    read();
    expect((await patient).usage.output_tokens).toBeGreaterThan(0);
  });

  test("a repetition penalty counts the words of prompts below", async () => {
    const below = "Lamps, chairs, tables: we sell lamps, chairs and tables.\n";
    const task = "{{ input }}\nWe sell";
    const stacked = restacked({ template: task, parameters: null }, [{ template: `${below}{{ input }}` }], {
      backbone: core.fingerprint,
    });
    const more = { repetitionPenalty: 3, maxTokens: 12 };
    const [one, other] = [core.prompt(task, stacked), core.prompt(below + task)];
    const plain = await core.infer(generateRequest(other, "What do you sell?", { maxTokens: 12 }));
    const [a, b] = await Promise.all(
      [one, other].map(digest => core.infer(generateRequest(digest, "What do you sell?", more))),
    );
    expect(a!.text).toBe(b!.text);
    expect(a!.text).not.toBe(plain.text);
  });
});

describe("a context of 128 positions", () => {
  /** The test core has a shelf of its own. */
  const shelf = {
    put: (_: unknown, { template, parameters }: TaskPrompt) => core.prompt(template, parameters),
    drop: () => {},
  } as unknown as Shelf;
  let cache: string;
  let backbone: TinyBackbone;
  let core: TestCore;
  beforeAll(async () => {
    cache = await mkdtemp(join(tmpdir(), "foreword-small-"));
    backbone = await tinyBackbone("llama", false);
    core = await openCore(backbone.path, cache);
  });
  afterAll(async () => {
    await core.close();
    await backbone.remove();
    await rm(cache, { recursive: true, force: true });
  });

  test("an input that may be cut makes room for the answer, and keeps half of what the prompt leaves", async () => {
    // 5 tokens and 9.
    const prompt = core.prompt("Text: {{ input }}\nSummary:");
    const input = "the cat sat on the mat ".repeat(50);
    const fed = async (more: object) =>
      (await core.infer(generateRequest(prompt, input, more))).usage.input_tokens;
    expect(await fed({ truncate: "end", maxTokens: 20 })).toBe(128 - 20);
    expect(await fed({ truncate: "start", maxTokens: 5000 })).toBe(128 - (128 - 14) / 2);
    // A choice takes what it takes, and EOS.
    expect(await fed({ truncate: "end", maxTokens: 20, choices: ["a", "b"] })).toBe(128 - 2);
  });

  test("labels of more tokens than the context are scored in several runs", async () => {
    const prompt = core.prompt("Text: {{ input }}\nLabel:");
    const words = ["lamp", "chair", "table", "order", "refund", "parcel"];
    const texts = words.flatMap(a =>
      words.flatMap(b => ["late", "lost"].map(c => ` the ${a} and ${b} ${c}`)),
    );
    const labels = Object.fromEntries(texts.map(text => [text, text]));
    const { scores } = await core.infer(classifyRequest(prompt, "the cat", labels));
    expect(scores.reduce((sum, { logprob }) => sum + Math.exp(logprob), 0)).toBeCloseTo(1, 6);
    const top = await core.infer(
      classifyRequest(prompt, "the cat", labels, { scores: "top", settle: texts }),
    );
    const byLabel = new Map(scores.map(({ label, logprob }) => [label, logprob]));
    expect(top.scores).toHaveLength(texts.length);
    for (const { label, logprob } of top.scores)
      expect(Math.abs(logprob - byLabel.get(label)!)).toBeLessThan(1e-4);
  });

  test("labels that come again are not encoded again, their scores are the same", async () => {
    const prompt = core.prompt("{{ input }} is");
    const ask = () =>
      core.infer(classifyRequest(prompt, "the cat", { yes: " yes it is", no: " not at all" }));
    const encode = vi.spyOn(core.tokenizer, "encode");
    onTestFinished(() => encode.mockRestore());
    const first = await ask();
    const texts = () => encode.mock.calls.map(([text]) => text);
    expect(texts()).toContain(" not at all");
    encode.mockClear();
    expect((await ask()).scores).toEqual(first.scores);
    expect(texts()).not.toContain(" not at all");
  });

  test("verbalizers of too many characters together are refused before one is encoded", async () => {
    const encode = vi.spyOn(core.tokenizer, "encode");
    onTestFinished(() => encode.mockRestore());
    const most = core.core.listedCharacters;
    const labels = (characters: number) => [
      { label: "a", verbalizers: ["a".repeat(characters / 2), "b"] },
      { label: "b", verbalizers: ["c".repeat(characters / 2 - 1)] },
    ];
    expect(() => core.core.checkLabels(labels(most + 2))).toThrow(
      expect.objectContaining({
        code: "validation",
        message: expect.stringMatching(/8194 characters together, and may have 8192\. Give fewer labels/),
      }),
    );
    expect(encode).not.toHaveBeenCalled();
    expect(core.core.checkLabels(labels(most))).toHaveLength(2);
  });

  const judging = (prompt: TaskPrompt, labels: Labels | null) => ({
    core: core.core,
    shelf,
    task: { labels },
    prompts: [prompt],
    active: {},
  });

  test("an input's references are scored by as many requests as they take, and a repeated one counts again", async () => {
    const reference = (at: number) => `the cat ${at} ${"on the mat ".repeat(5)}`;
    const some = Array.from({ length: 150 }, (_, at) => reference(at));
    const wanted = [...some, some[3]!];
    expect(some.join("").length).toBeGreaterThan(core.core.listedCharacters);
    const written = (wanted: string[]) =>
      write(judging({ template: "{{ input }}:", parameters: null }, null), [{ input: "the cat", wanted }], {
        maxTokens: 4,
      });
    const [[all], [alone]] = await Promise.all([written(wanted), written([some[3]!])]);
    expect(all!.text).toBe(alone!.text);
    expect(all!.targets.map(({ text }) => text)).toEqual(wanted);
    for (const at of [3, 150])
      expect(Math.abs(all!.targets[at]!.logprob - alone!.targets[0]!.logprob)).toBeLessThan(1e-3);
  });

  test.each<[string, Labels | null, object]>([
    ["labels", { yes: " yes", no: " not the cat on the mat" }, { label: "yes" }],
    ["texts", null, { output: "a cat" }],
  ])(
    "an example of %s is laid out for training where it can be judged, and nowhere else",
    async (_, labels, answer) => {
      const source = "Text: {{ input }}\nAnswer:";
      const plan = {
        method: "soft",
        template: compileTemplate(source),
        softLengths: [],
        maxTokens: 1024,
        labelSmoothing: 0,
        classWeights: new Map(),
      } as unknown as Plan;
      const context = contextOf(plan, { labels }, core.tokenizer, core.config.maxPositions);
      const fits = [];
      for (let length = 80; length < 125; length++) {
        const example = { input: "a".repeat(length), ...answer } as Example;
        const judged = judge(judging({ template: source, parameters: null }, labels), [example]).then(
          () => true,
          ({ code }) => code !== "input_too_long",
        );
        let laidOut = true;
        try {
          layOut([example], context, () => 7, "validation");
        } catch (error) {
          expect((error as Error).message).toMatch(
            /^validation: line 7: The example has \d+ tokens; at most 128 fit\./,
          );
          laidOut = false;
        }
        expect([length, laidOut]).toEqual([length, await judged]);
        fits.push(laidOut);
      }
      expect(new Set(fits)).toEqual(new Set([true, false]));
    },
  );

  test("an input that may not be cut leaves a token at least", async () => {
    const prompt = core.prompt("{{ input }}");
    const { usage } = await core.infer(generateRequest(prompt, "a".repeat(127), { maxTokens: 20 }));
    expect(usage).toMatchObject({ input_tokens: 127, output_tokens: 1 });
    await expect(core.infer(generateRequest(prompt, "a".repeat(128)))).rejects.toMatchObject({
      code: "input_too_long",
      fields: { tokens: 128, limit: 127, over: 1 },
    });
  });
});

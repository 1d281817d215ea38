import { readFile } from "node:fs/promises";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { Batch } from "../../src/engine/batch.ts";
import { logSumExp } from "../../src/engine/sampler.ts";
import { writePromptFile } from "../../src/prompt/file.ts";
import { describeBackbone } from "../support/backbone.ts";
import { sharedCache } from "../support/compiled.ts";
import {
  type ClassifyAnswer,
  classifyRequest,
  type GenerateAnswer,
  generateRequest,
  openCore,
  type TestCore,
} from "../support/core.ts";

interface Reference {
  cases: { text: string; ids: number[]; log_p_of_next: number[] }[];
  greedy: { prompt: string; continuation_ids: number[]; text: string };
}

const moods = { positive: " positive", negative: " negative" };

describeBackbone("SmolLM2 at fp32", path => {
  let t: TestCore;
  let reference: Reference;

  beforeAll(async () => {
    t = await openCore(path, sharedCache());
    reference = JSON.parse(
      await readFile(new URL("../fixtures/reference/smollm2.json", import.meta.url), "utf8"),
    );
  });
  afterAll(() => t?.close());

  const logprobs = (answer: unknown) =>
    Object.fromEntries((answer as ClassifyAnswer).scores.map(({ label, logprob }) => [label, logprob]));
  const targetsOf = (answer: unknown) => (answer as ClassifyAnswer).targets!.map(target => target.logprob);

  test("log P of every next token is transformers', and that of a target their sum", async () => {
    const batch = new Batch(t.session, t.config);
    const prompt = t.prompt("{{ input }}");
    for (const { text, ids, log_p_of_next } of reference.cases) {
      const sampled = [...ids.keys()];
      const work = { past: [], segments: [{ ids }], branches: [], scored: [], sampled, keep: false };
      const [result] = await batch.prefill([work]);
      for (const [at, logP] of log_p_of_next.entries()) {
        const logits = result!.logits[at]!;
        expect(Math.abs(logits[ids[at + 1]!]! - logSumExp(logits) - logP)).toBeLessThan(1e-3);
      }
      // The first token as the input, the others as the target.
      const input = t.tokenizer.decode(ids.slice(0, 1), { skipSpecial: false });
      const targets = [text.slice(input.length)];
      const answer = await t.infer(classifyRequest(prompt, input, moods, { targets }));
      const sum = log_p_of_next.reduce((total, logP) => total + logP, 0);
      expect(Math.abs(targetsOf(answer)[0]! - sum)).toBeLessThan(1e-3);
    }
  });

  describe("a KV prefix answers as the same prompt written out in full", () => {
    const words = "Review: A warm, funny film.\nSentiment: positive\n\nReview:";
    const inputs = [
      "Dull and far too long.",
      "今天的电影很好看。",
      "I loved every minute of it, from the first scene to the last one.",
    ];
    const end = "\nSentiment:";

    test("hard, soft and mixed templates, alone and in one batch with other tasks", async () => {
      const embedding = await wordEmbeddings(path);
      const ids = t.tokenizer.encodeWithSpecials(words);
      const soft = embedding(ids);
      const dims = [ids.length, t.config.hiddenSize] as const;
      const file = (template: string) =>
        writePromptFile({
          kind: "soft",
          template,
          backbone: t.fingerprint,
          recipe: null,
          soft: { dims, data: soft },
        });
      const half = t.tokenizer.decode(ids.slice(0, 6), { skipSpecial: false });
      expect(t.tokenizer.encodeWithSpecials(half)).toEqual(ids.slice(0, 6));
      const tail = {
        dims: [ids.length - 6, t.config.hiddenSize] as const,
        data: soft.slice(6 * t.config.hiddenSize),
      };
      const softTemplate = `{{ soft(${ids.length}) }} {{ input }}${end}`;
      const mixedTemplate = `${half}{{ soft(${ids.length - 6}) }} {{ input }}${end}`;
      const prompts = {
        // The whole prompt stands behind a field, so that nothing of it is a KV prefix.
        full: t.prompt(`{{ lead }}${words} {{ input }}${end}`),
        hard: t.prompt(`${words} {{ input }}${end}`),
        soft: t.prompt(softTemplate, file(softTemplate)),
        mixed: t.prompt(
          mixedTemplate,
          writePromptFile({
            kind: "soft",
            template: mixedTemplate,
            backbone: t.fingerprint,
            recipe: null,
            soft: tail,
          }),
        ),
      };
      const ask = (prompt: string, input: string) =>
        t.infer(classifyRequest(prompt, input, moods, { targets: [" positive and warm"] }));
      const alone: Record<string, number[]> = {};
      for (const input of inputs) {
        for (const kind of ["hard", "soft", "mixed"] as const) {
          const answer = await ask(prompts[kind], input);
          alone[`${kind} ${input}`] = [...targetsOf(answer), logprobs(answer).positive!];
        }
        expect(alone[`soft ${input}`]![0]).toBeCloseTo(alone[`hard ${input}`]![0]!, 4);
        expect(alone[`mixed ${input}`]![0]).toBeCloseTo(alone[`hard ${input}`]![0]!, 4);
        expect(alone[`soft ${input}`]![1]).toBeCloseTo(alone[`hard ${input}`]![1]!, 4);
      }
      const together = await Promise.all(
        inputs.flatMap(input =>
          (["hard", "soft", "mixed"] as const).map(async kind => ({
            key: `${kind} ${input}`,
            answer: await ask(prompts[kind], input),
          })),
        ),
      );
      for (const { key, answer } of together) {
        expect(targetsOf(answer)[0]).toBeCloseTo(alone[key]![0]!, 4);
        expect(logprobs(answer).positive).toBeCloseTo(alone[key]![1]!, 4);
      }
    });

    test("written out: the row holds the whole prompt", async () => {
      const written = t.prompt("{{ input }}");
      const hard = t.prompt(`${words} {{ input }}${end}`);
      const ids = [
        ...t.tokenizer.encodeWithSpecials(words),
        ...t.tokenizer.encode(` ${inputs[0]}`),
        ...t.tokenizer.encodeWithSpecials(end),
      ];
      const text = t.tokenizer.decode(ids, { skipSpecial: false });
      expect(t.tokenizer.encode(text)).toEqual(ids);
      const [a, b] = await Promise.all([
        t.infer(classifyRequest(written, text, moods, { targets: [" positive"] })),
        t.infer(classifyRequest(hard, inputs[0]!, moods, { targets: [" positive"] })),
      ]);
      expect(targetsOf(a)[0]).toBeCloseTo(targetsOf(b)[0]!, 4);
    });
  });

  test("labels of several tokens: sums to 1, equals a brute-force walk by targets; top agrees with all", async () => {
    const labels = {
      card: " card arrival",
      late: " card late",
      lost: " lost or stolen card",
      money: [" money", " money transfer"],
    };
    const prompt = t.prompt("Message: {{ input }}\nTopic:");
    const input = "My new card has still not come.";
    const all = logprobs(await t.infer(classifyRequest(prompt, input, labels)));
    expect(Object.values(all).reduce((sum, logprob) => sum + Math.exp(logprob), 0)).toBeCloseTo(1, 6);
    // Brute force from unrestricted log P: each node's share is P(child) over the sum of its children.
    const targets = [" card", " lost", " money", " card arrival", " card late"];
    const [card, lost, money, arrival, late] = targetsOf(
      await t.infer(classifyRequest(prompt, input, labels, { targets })),
    );
    const share = (a: number, ...others: number[]) =>
      a - Math.log([a, ...others].reduce((sum, logprob) => sum + Math.exp(logprob), 0));
    expect(all.lost).toBeCloseTo(share(lost!, card!, money!), 4);
    expect(all.card).toBeCloseTo(share(card!, lost!, money!) + share(arrival!, late!), 4);
    const top = (await t.infer(classifyRequest(prompt, input, labels, { scores: "top" }))) as ClassifyAnswer;
    const best = Object.entries(all).sort((a, b) => b[1] - a[1])[0]!;
    expect(top.scores[0]!.label).toBe(best[0]);
    expect(top.scores[0]!.logprob).toBeCloseTo(best[1], 4);
  });

  test("greedy generation does not depend on what else is in the batch", async () => {
    const prompt = t.prompt("{{ input }}");
    const { greedy } = reference;
    const inputs = [
      greedy.prompt,
      "Three primary colours are",
      "The play Hamlet, a tragedy in five acts, was written by",
    ];
    const ask = async (input: string) =>
      (await t.infer(
        generateRequest(prompt, input, { maxTokens: greedy.continuation_ids.length }),
      )) as GenerateAnswer;
    const alone: string[] = [];
    for (const input of inputs) alone.push((await ask(input)).text);
    const together = await Promise.all(inputs.map(ask));
    expect(together.map(answer => answer.text)).toEqual(alone);
    expect(alone[0]).toBe(greedy.text);
  });

  test("choices, JSON schema, stop texts, seeds and log-probabilities", async () => {
    const prompt = t.prompt("{{ input }}");
    const ask = async (input: string, more: object) =>
      (await t.infer(generateRequest(prompt, input, more))) as GenerateAnswer;
    const chosen = await ask("Is the sky blue? The answer is", {
      choices: [" yes, it is", " no, it is not"],
    });
    expect([" yes, it is", " no, it is not"]).toContain(chosen.text);
    expect(chosen.finishReason).toBe("stop");
    const schema = {
      type: "object",
      properties: {
        city: { type: "string", maxLength: 20 },
        people: { type: "integer", minimum: 0, maximum: 20000000 },
      },
      required: ["city", "people"],
      additionalProperties: false,
    };
    const json = await ask("A JSON description of Paris:", { jsonSchema: schema, maxTokens: 80 });
    expect(Object.keys(JSON.parse(json.text))).toEqual(["city", "people"]);
    const stopped = await ask("The capital of France is", { stop: ["Paris"] });
    expect(stopped.text).not.toContain("Paris");
    expect(stopped.finishReason).toBe("stop");
    const hot = { temperature: 1, seed: 7 };
    expect((await ask("Once upon a time", hot)).text).toBe((await ask("Once upon a time", hot)).text);
    expect((await ask("Once upon a time", hot)).text).not.toBe(
      (await ask("Once upon a time", { temperature: 1, seed: 8 })).text,
    );
    const detailed = await ask("The capital of France is", { logprobs: 2, maxTokens: 4 });
    for (const { token, logprob, top } of detailed.logprobs!) {
      expect(top).toHaveLength(2);
      expect(top[0]).toEqual({ token, logprob });
      expect(logprob).toBeLessThanOrEqual(0);
    }
  });

  test("an input too long is refused with figures", async () => {
    const prompt = t.prompt("Text: {{ input }}\nLabel:");
    const long = "many words ".repeat(5000);
    await expect(t.infer(classifyRequest(prompt, long, moods))).rejects.toMatchObject({
      code: "input_too_long",
      fields: { limit: expect.any(Number), over: expect.any(Number) },
    });
  });
});

/** Rows of the embedding table. */
async function wordEmbeddings(path: string) {
  const { openBackbone } = await import("../../src/backbone/source.ts");
  const source = await openBackbone(path);
  const table = await source.read("embed_tokens.weight");
  const width = source.config.hiddenSize;
  await source.close();
  return (ids: readonly number[]) => {
    const rows = new Float32Array(ids.length * width);
    for (const [index, id] of ids.entries())
      rows.set(table.subarray(id * width, (id + 1) * width), index * width);
    return rows;
  };
}

import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { describeBackbone } from "../support/backbone.ts";
import { sharedCache } from "../support/compiled.ts";
import { classifyRequest, generateRequest, openCore, type TestCore } from "../support/core.ts";
import { type TinyBackbone, tinyBackbone } from "../support/tiny.ts";

describeBackbone("requests that begin alike", path => {
  let core: TestCore;
  beforeAll(async () => {
    core = await openCore(path, sharedCache());
  });
  afterAll(() => core.close());

  /** Some 400 tokens that nothing else begins with. */
  const document = (name: string) =>
    Array.from({ length: 40 }, (_, line) => `Line ${line} of ${name} says nothing of note.`).join(" ");
  const labels = { positive: " positive", negative: " negative" };
  const worked = () => core.core.statistics().prefillTokens;

  test("answers do not change, and from the second request on only the rest is worked on", async () => {
    const prompt = core.prompt("{{ input }}\nSentiment:");
    const ask = (question: string) =>
      core.infer(classifyRequest(prompt, `${document("one")} ${question}`, labels));
    const alone = await ask("It was good.");
    const length = alone.usage.input_tokens;
    expect(alone.usage.cached_tokens).toBe(0);
    await ask("It was bad.");
    const before = worked();
    const third = await ask("It was good.");
    expect(third.usage.cached_tokens).toBeGreaterThanOrEqual(length - 160);
    expect(worked() - before).toBe(length - third.usage.cached_tokens);
    for (const [index, { label, logprob }] of third.scores.entries()) {
      expect(label).toBe(alone.scores[index]!.label);
      expect(Math.abs(logprob - alone.scores[index]!.logprob)).toBeLessThan(1e-4);
    }
  });

  test("requests that come together make the blocks once", async () => {
    const prompt = core.prompt("{{ input }}");
    const ask = (question: string) =>
      core.infer(generateRequest(prompt, `${document("two")} ${question}`, { maxTokens: 3 }));
    const alone = await ask("The end is");
    const before = worked();
    const all = await Promise.all(Array.from({ length: 6 }, () => ask("The end is")));
    for (const { text } of all) expect(text).toBe(alone.text);
    const blocks = Math.floor((alone.usage.input_tokens - 1) / 128) * 128;
    expect(worked() - before).toBe(blocks + 6 * (alone.usage.input_tokens - blocks));
  });

  test("another prompt, or another beginning, shares nothing", async () => {
    const [one, other] = [core.prompt("{{ input }}"), core.prompt("Say: {{ input }}")];
    for (let round = 0; round < 2; round++)
      await core.infer(generateRequest(one, `${document("three")} So`, { maxTokens: 1 }));
    const elsewhere = await core.infer(generateRequest(other, `${document("three")} So`, { maxTokens: 1 }));
    expect(elsewhere.usage.cached_tokens).toBe(0);
    const changed = await core.infer(generateRequest(one, `But ${document("three")} So`, { maxTokens: 1 }));
    expect(changed.usage.cached_tokens).toBe(0);
  });
});

describe("many long beginnings", () => {
  let cache: string;
  let backbone: TinyBackbone;
  let core: TestCore;
  beforeAll(async () => {
    cache = await mkdtemp(join(tmpdir(), "foreword-leading-"));
    backbone = await tinyBackbone("llama", false, { max_position_embeddings: 4096 });
    core = await openCore(backbone.path, cache);
  });
  afterAll(async () => {
    await core.close();
    await backbone.remove();
    await rm(cache, { recursive: true, force: true });
  });

  const worked = () => core.core.statistics().prefillTokens;
  const inputs = (name: string, count: number) =>
    Array.from({ length: count }, (_, at) => `${name} ${at} ${"abcdefghij ".repeat(75)}`);
  const asked = (prompt: string, input: string, cancelled = () => false) =>
    core.core.infer(generateRequest(prompt, input, { maxTokens: 4 }), { ...core.far(), cancelled });
  /** Whether anything was worked on since. */
  const begun = () => {
    const before = worked();
    return () => worked() > before;
  };

  test("beginnings that nobody waits for any more are not worked on to their end", async () => {
    const prompt = core.prompt("Doc: {{ input }}\nSummary:");
    const documents = inputs("one", 8);
    await Promise.all(documents.map(each => asked(prompt, each)));
    const whole = worked();
    const gone = begun();
    const answers = await Promise.allSettled(documents.map(each => asked(prompt, each, gone)));
    for (const answer of answers)
      expect(answer).toMatchObject({ status: "rejected", reason: { code: "deadline" } });
    await core.core.infer(generateRequest(prompt, "short", { maxTokens: 1 }), core.far());
    expect(worked() - whole).toBeLessThan(whole / 2);
    // What was given up is made for whoever comes next.
    const { usage } = await asked(prompt, documents[0]!);
    expect(usage.output_tokens).toBe(4);
  });

  test("inputs that are forgotten are met for the first time again, behind a prompt that stays", async () => {
    const prompt = core.prompt("Again: {{ input }}");
    const [document] = inputs("again", 1);
    const cached = async () => (await asked(prompt, document!)).usage.cached_tokens;
    const [, prefix, all] = [await cached(), await cached(), await cached()];
    expect(all).toBeGreaterThan(prefix);
    core.core.forgetInputs(prompt);
    expect([await cached(), await cached(), await cached()]).toEqual([prefix, prefix, all]);
  });

  test("so are prompts, unless another one waits, who gets it", async () => {
    const prompt = core.prompt(`${"abcdefghij ".repeat(300)}{{ input }}`);
    const before = worked();
    await expect(asked(prompt, "a", begun())).rejects.toMatchObject({ code: "deadline" });
    expect(worked() - before).toBeLessThan(1500);
    const [one, other] = await Promise.allSettled([asked(prompt, "a", begun()), asked(prompt, "b")]);
    expect(one).toMatchObject({ status: "rejected", reason: { code: "deadline" } });
    expect(other).toMatchObject({ status: "fulfilled", value: { usage: { output_tokens: 4 } } });
  });

  test("who leaves is answered at once, whatever others wait for", async () => {
    const prompt = core.prompt("Read late: {{ input }}");
    let read = () => {};
    core.reading(prompt, new Promise(resolve => (read = resolve)));
    let gone = false;
    const left = asked(prompt, "a", () => gone);
    const stays = asked(prompt, "b");
    gone = true;
    await expect(left).rejects.toThrow("went away");
    read();
    expect((await stays).usage.output_tokens).toBe(4);
  });

  test("requests that wait hold no more beginnings than the cache has room for", async () => {
    const { layers, kvHeads, headDim } = core.config;
    const block = 128 * layers * kvHeads * headDim * 2 * 4;
    // Each input has five whole blocks.
    const limit = 20 * block;
    const small = await openCore(backbone.path, cache, "onnx", "fp32", limit);
    let most = 0;
    const watching = () => {
      most = Math.max(most, small.core.statistics().prefixBytes);
      return false;
    };
    const prompt = small.prompt("Doc: {{ input }}\nSummary:");
    const all = () =>
      Promise.all(
        inputs("two", 24).map(input =>
          small.core.infer(generateRequest(prompt, input, { maxTokens: 100 }), {
            ...small.far(),
            cancelled: watching,
          }),
        ),
      );
    try {
      const first = await all();
      const second = await all();
      expect(second.map(({ text }) => text)).toEqual(first.map(({ text }) => text));
      expect(most).toBeGreaterThan(limit / 2);
      expect(most).toBeLessThanOrEqual(limit);
      const last = generateRequest(prompt, inputs("two", 24).at(-1)!, { maxTokens: 4 });
      await small.infer(last);
      expect((await small.infer(last)).usage.cached_tokens).toBeGreaterThanOrEqual(5 * 128);
    } finally {
      await small.close();
    }
  });
});

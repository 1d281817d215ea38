import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { describeBackbone } from "../support/backbone.ts";
import { classifyRequest, generateRequest, openCore, type TestCore } from "../support/core.ts";

describeBackbone("requests that begin alike", path => {
  let core: TestCore;
  let cache: string;
  beforeAll(async () => {
    cache = await mkdtemp(join(tmpdir(), "foreword-leading-"));
    core = await openCore(path, cache);
  });
  afterAll(async () => {
    await core.close();
    await rm(cache, { recursive: true, force: true });
  });

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

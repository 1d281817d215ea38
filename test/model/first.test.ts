/** A prompt's first answer: computed in one run with the prompt itself, and the same as every later one. */
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { layersOf, restacked } from "../../src/prompt/stack.ts";
import { prefixFrom, promptFileOf } from "../../src/training/start.ts";
import { describeBackbone } from "../support/backbone.ts";
import { classifyRequest, generateRequest, openCore, type TestCore } from "../support/core.ts";

describeBackbone("first answers", path => {
  let core: TestCore;
  let cache: string;
  beforeAll(async () => {
    cache = await mkdtemp(join(tmpdir(), "foreword-first-"));
    core = await openCore(path, cache);
  });
  afterAll(async () => {
    await core.close();
    await rm(cache, { recursive: true, force: true });
  });

  const labels = { positive: " positive", negative: " negative", mixed: " mixed at best" };
  const input = "The lamp is bright, but it hums.";
  /** The template with a trained prefix before it: what this text leaves behind. */
  async function prefixed(text: string, template: string) {
    const block = await core.core.read(core.tokenizer.encode(text));
    const parameters = await promptFileOf(
      {
        method: "prefix",
        template,
        backbone: core.fingerprint,
        recipe: null,
        parameters: prefixFrom(block, core.config, null),
        verbalizers: null,
        bases: [],
        start: 0,
      },
      core.config,
    );
    return { template, parameters };
  }
  const stacked = (template: string) => {
    const base = { template: "Shared by all of them.\n{{ input }}", parameters: null };
    const top = { template, parameters: null };
    return { template, parameters: restacked(top, layersOf(base), { backbone: core.fingerprint }) };
  };

  test.each([
    ["a hard prompt", async (template: string) => ({ template, parameters: null })],
    ["a trained prefix with words behind it", (template: string) => prefixed("Be brief.\n", template)],
    ["a prompt on another", async (template: string) => stacked(template)],
  ] as const)("%s: one run, and what later ones say", async (name, make) => {
    const ask = {
      "all labels": (digest: string) => core.infer(classifyRequest(digest, input, labels)),
      "the best label": (digest: string) =>
        core.infer(classifyRequest(digest, input, labels, { scores: "top" })),
      "a text": (digest: string) => core.infer(generateRequest(digest, input, { maxTokens: 5, logprobs: 0 })),
    };
    for (const [kind, answer] of Object.entries(ask)) {
      const { template, parameters } = await make(`${name}, ${kind}.\nReview: {{ input }}\nSentiment:`);
      // What it stands on is another prompt's too: there when this one is first asked.
      if (name === "a prompt on another") await answer(core.prompt(template, parameters));
      const again = await make(`Once more ${name}, ${kind}.\nReview: {{ input }}\nSentiment:`);
      const digest = core.prompt(again.template, again.parameters);
      const before = core.core.statistics();
      const first = await answer(digest);
      const between = core.core.statistics();
      const warm = await answer(digest);
      const after = core.core.statistics();
      expect(between.steps - before.steps).toBe(after.steps - between.steps);
      expect(first.usage.input_tokens).toBe(warm.usage.input_tokens);
      expect(first.usage.cached_tokens).toBeLessThan(warm.usage.cached_tokens);
      expect(between.prefillTokens - before.prefillTokens).toBe(
        after.prefillTokens - between.prefillTokens + warm.usage.cached_tokens - first.usage.cached_tokens,
      );
      const numbers = (reply: typeof first) =>
        reply.kind === "classify"
          ? reply.scores.map(({ label, logprob }) => [label, logprob] as const)
          : reply.logprobs!.map(({ token, logprob }) => [token, logprob] as const);
      const [one, other] = [numbers(first), numbers(warm)];
      expect(one.length).toBeGreaterThan(0);
      expect(one.map(([what]) => what)).toEqual(other.map(([what]) => what));
      for (const [at, [, logprob]] of one.entries())
        expect(Math.abs(logprob - other[at]![1])).toBeLessThan(1e-4);
    }
  });

  test("a first row that fails fails alone", async () => {
    const gone = { ...core.far(), cancelled: () => true };
    const tooLong = "very ".repeat(core.config.maxPositions);
    for (const [at, fail] of [
      (digest: string) => core.infer(classifyRequest(digest, tooLong, labels)),
      (digest: string) => core.core.infer(classifyRequest(digest, input, labels), gone),
    ].entries()) {
      const digest = core.prompt(`Alone ${at}.\nReview: {{ input }}\nSentiment:`);
      const [failed, answered] = await Promise.allSettled([
        fail(digest),
        core.infer(classifyRequest(digest, input, labels)),
      ]);
      expect(failed).toMatchObject({
        status: "rejected",
        reason: { code: ["input_too_long", "deadline"][at] },
      });
      expect(answered).toMatchObject({ status: "fulfilled", value: { scores: { length: 3 } } });
    }
  });
});

/** Prompts stacked on one another answer as the same text written out in full, and share what they stand on. */
import { setTimeout as sleep } from "node:timers/promises";
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import { afterAll, beforeAll, expect, test } from "vitest";
import { joinBlocks, type KvBlock } from "../../src/engine/kv.ts";
import { preparePrompt } from "../../src/engine/prefix.ts";
import { layersOf, PLATFORM, platform, restacked, unstacked } from "../../src/prompt/stack.ts";
import { prefixFrom, promptFileOf } from "../../src/training/start.ts";
import { describeBackbone } from "../support/backbone.ts";
import { sharedCache } from "../support/compiled.ts";
import { classifyRequest, generateRequest, openCore, type TestCore } from "../support/core.ts";

const system = "You sort the mail of a shop. The shop sells lamps, chairs and tables.\n";
const shots = "Message: Where is my lamp?\nTopic: delivery\n";
const task = "Message: {{ input }}\nTopic:";
const full = system + shots + task;
const labels = { delivery: " delivery", payment: " payment", praise: " praise" };
const inputs = ["My card was charged twice.", "The chair is lovely!", "It has not come yet."];

describeBackbone("stacked prompts", path => {
  let core: TestCore;
  beforeAll(async () => {
    core = await openCore(path, sharedCache());
  });
  afterAll(() => core.close());

  const hard = (template: string) => ({ template, parameters: null });
  const on = (prompt: Parameters<typeof restacked>[0], below: Parameters<typeof layersOf>[0]) => ({
    template: prompt.template,
    parameters: restacked(prompt, layersOf(below), { backbone: core.fingerprint }),
  });
  const scoresOf = async (digest: string, input: string) => {
    const { scores } = await core.infer(classifyRequest(digest, input, labels));
    return new Map(scores.map(({ label, logprob }) => [label, logprob]));
  };
  /** The prompts' scores of all inputs, at most `tolerance` apart. */
  async function expectAlike(one: string, other: string, tolerance = 1e-3) {
    for (const input of inputs) {
      const [a, b] = [await scoresOf(one, input), await scoresOf(other, input)];
      for (const [label, logprob] of a) expect(Math.abs(logprob - b.get(label)!)).toBeLessThan(tolerance);
    }
  }
  /** What a text's forward pass leaves behind `past`, as the file of a prefix that was trained there. */
  async function prefixFile(text: string, past: KvBlock | null, template: string) {
    const block = await core.core.read(core.tokenizer.encode(text), past);
    return promptFileOf(
      {
        method: "prefix",
        template,
        backbone: core.fingerprint,
        recipe: null,
        parameters: prefixFrom(block, core.config, null),
        verbalizers: null,
        bases: [],
        start: past?.length ?? 0,
      },
      core.config,
    );
  }

  test("the pieces are tokenised as the whole is", () => {
    const pieces = [system, shots, "Message:"].flatMap(text => core.tokenizer.encode(text));
    expect(pieces).toEqual(core.tokenizer.encode(`${system}${shots}Message:`));
  });

  test("words on words on words are the same words in one prompt", async () => {
    const middle = on(hard(`${shots}{{ input }}`), hard(`${system}{{ input }} and what stands behind it`));
    const top = on(hard(task), middle);
    const [stacked, whole] = [core.prompt(top.template, top.parameters), core.prompt(full)];
    expect(core.core.inspect(top).length).toBe(core.core.inspect(hard(full)).length);
    await expectAlike(stacked, whole);
    const texts = [stacked, whole].map(digest => core.infer(generateRequest(digest, inputs[0]!)));
    const [a, b] = await Promise.all(texts);
    expect(a!.text).toBe(b!.text);
  });

  test("no two stacks share keys and values, whatever their words are", async () => {
    const two = [{ template: "Aa.\n{{ input }}" }, { template: "Bb.\n{{ input }}" }];
    const one = [{ template: "Aa.\n{{ input }}---Bb.\n{{ input }}" }];
    const stack = (bases: typeof two) =>
      core.prompt(task, restacked(hard(task), bases, { backbone: core.fingerprint }));
    await scoresOf(stack(one), inputs[0]!);
    await expectAlike(stack(two), core.prompt(`Aa.\nBb.\n${task}`));
  });

  test("a prefix that was trained behind another prompt stands there as it was, and anywhere else moved", async () => {
    const base = hard(`${system}{{ input }}`);
    const past = await core.core.prefix(hard(`${system}{{ input }}`));
    // The white space before a field is the field's; a base keeps it.
    const spaced = await core.core.read(core.tokenizer.encode(system));
    expect(past.length).toBeLessThan(spaced.length);
    const parameters = await prefixFile(`${shots}Message:`, spaced, " {{ input }}\nTopic:");
    const top = on({ template: " {{ input }}\nTopic:", parameters }, base);
    await expectAlike(core.prompt(top.template, top.parameters), core.prompt(full));

    // Its own part is the same file, wherever it stood; alone, its keys stand at the beginning.
    expect(Buffer.from(unstacked(top).parameters!)).toEqual(Buffer.from(parameters));
    const alone = await core.core.prefix({ template: top.template, parameters });
    const there = joinBlocks(
      [await core.core.prefix({ template: top.template, parameters: top.parameters })],
      core.config,
    );
    expect(there.length).toBe(spaced.length + alone.length);
    const last = there.value[3]!.slice(-core.config.headDim);
    expect(last).toEqual(alone.value[3]!.slice(-core.config.headDim));
  });

  test("all that stand on a prompt share its keys and values; rows of one stack are one run", async () => {
    const base = hard(`Shared by all: be kind, be brief.\n${system}{{ input }}`);
    const length = core.core.inspect({
      template: PLATFORM,
      parameters: platform(layersOf(base), core.fingerprint),
    }).length;
    const [one, other] = ["Text", "Mail"].map(word => {
      const { template, parameters } = on(hard(`${word}: {{ input }}\nTopic:`), base);
      return core.prompt(template, parameters);
    }) as [string, string];
    const first = await core.infer(classifyRequest(one, inputs[0]!, labels));
    expect(first.usage.cached_tokens).toBe(0);
    const before = core.core.statistics();
    const second = await core.infer(classifyRequest(other, inputs[0]!, labels));
    expect(second.usage.cached_tokens).toBe(length);
    const after = core.core.statistics();
    expect(after.prefillTokens - before.prefillTokens).toBeLessThan(length);
    const many = await Promise.all(
      [0, 1, 2].flatMap(at => [one, other].map(each => scoresOf(each, inputs[at]!))),
    );
    for (const [at, found] of many.entries()) {
      const single = await scoresOf([one, other][at % 2]!, inputs[Math.floor(at / 2)]!);
      for (const [label, logprob] of single) expect(Math.abs(logprob - found.get(label)!)).toBeLessThan(1e-3);
    }
  });

  test("a prompt below that the cache has let go is read again", async () => {
    const { template, parameters } = on(hard(`Note: {{ input }}\nTopic:`), hard(`${system}{{ input }}`));
    const top = core.prompt(template, parameters);
    const before = await scoresOf(top, inputs[0]!);
    const { fingerprint } = core;
    const compiled = { fingerprint, valueScales: null };
    const { bases } = preparePrompt({ template, parameters }, core.tokenizer, core.config, compiled);
    const { prefixEntries } = core.core.statistics();
    core.core.forget(bases[0]!.key);
    expect(core.core.statistics().prefixEntries).toBe(prefixEntries - 1);
    expect(await scoresOf(top, inputs[0]!)).toEqual(before);
    expect(core.core.statistics().prefixEntries).toBe(prefixEntries);
  });

  test("what prompts take in memory is what the cache counts", async () => {
    setFlagsFromString("--expose-gc");
    const collect = runInNewContext("gc") as () => void;
    /** Buffers are freed some time after their collection, and what native code holds with the turn after it. */
    const taken = async () => {
      for (let last = Number.NaN; ; ) {
        collect();
        await sleep(200);
        const { arrayBuffers } = process.memoryUsage();
        if (arrayBuffers === last) return last;
        last = arrayBuffers;
      }
    };
    const parameters = await prefixFile(`${system}${shots}Message:`, null, "{{ input }}");
    // Words behind a trained prefix make its block a new one.
    const prompts = Array.from({ length: 20 }, (_, at) => {
      const template = `${at}: {{ input }}\nTopic:`;
      return core.prompt(template, restacked({ template, parameters }, [], { backbone: core.fingerprint }));
    });
    const [before, counted] = [await taken(), core.core.statistics().prefixBytes];
    for (const prompt of prompts) await scoresOf(prompt, inputs[0]!);
    const [grown, more] = [(await taken()) - before, core.core.statistics().prefixBytes - counted];
    expect(more).toBeGreaterThan(20 * 2 ** 20);
    expect(grown / more).toBeGreaterThan(0.95);
    expect(grown / more).toBeLessThan(1.1);
  });
});

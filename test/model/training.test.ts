/** Training on SmolLM2: its losses are what serving answers, it learns, and it repeats itself bit for bit. */
import { afterAll, beforeAll, expect, test } from "vitest";
import { architectures } from "../../src/backbone/architectures/index.ts";
import { classificationLoss, generationLoss } from "../../src/backbone/objective.ts";
import { type BackboneSource, openBackbone } from "../../src/backbone/source.ts";
import { compileBackbone } from "../../src/compile/backbone.ts";
import type { Example } from "../../src/contract/dataset.ts";
import { Batch } from "../../src/engine/batch.ts";
import { compileTemplate } from "../../src/prompt/template.ts";
import { buildTrie } from "../../src/prompt/trie.ts";
import { createOnnxRuntime } from "../../src/runtime/onnx.ts";
import type { Runtime, Session } from "../../src/runtime/runtime.ts";
import type { Parameter } from "../../src/training/batches.ts";
import { type GradientSource, openGradients } from "../../src/training/gradients.ts";
import type { Method } from "../../src/training/graph.ts";
import { type ClassificationContext, classificationRows, generationRow } from "../../src/training/rows.ts";
import { fitIds, prefixFrom, promptFileOf, softFrom } from "../../src/training/start.ts";
import { Trainer, type TrainSettings } from "../../src/training/trainer.ts";
import { describeBackbone } from "../support/backbone.ts";
import { sharedCache } from "../support/compiled.ts";
import { classifyRequest, generateRequest, openCore, type TestCore } from "../support/core.ts";

const settings: TrainSettings = {
  steps: 12,
  batchSize: 4,
  learningRate: 0.01,
  warmup: 2,
  optimizer: "adamw",
  weightDecay: 0,
  clip: 1,
  seed: 3,
  microTokens: 60,
  average: 0,
};

const reviews: [string, string][] = [
  ["A warm and funny film.", "positive"],
  ["Dull from start to end.", "negative"],
  ["I laughed, I cried, I want to see it again.", "positive"],
  ["The plot makes no sense.", "negative"],
  ["Beautifully acted.", "positive"],
  ["A waste of two hours.", "negative"],
];

describeBackbone("training", path => {
  let core: TestCore;
  let source: BackboneSource;
  const sessions = new Map<string, Session>();
  let open: (
    method: Method,
    objective: "classification" | "generation",
    parameters: Parameter[],
  ) => GradientSource;

  beforeAll(async () => {
    const cache = sharedCache();
    core = await openCore(path, cache);
    source = await openBackbone(path);
    const compiled = await compileBackbone(source, cache, () => {});
    const runtime = createOnnxRuntime({ threads: 2 });
    open = (method, objective, parameters) => {
      const { config } = source;
      const step = architectures[config.architecture](config);
      const loss = objective === "classification" ? classificationLoss(step) : generationLoss(step);
      const key = `${method} ${objective}`;
      const load: Runtime["load"] = async (...graph) => {
        const session = sessions.get(key) ?? (await runtime.load(...graph));
        sessions.set(key, session);
        return session;
      };
      return openGradients({ runtime: { ...runtime, load }, compiled, config, loss, method, parameters });
    };
  });
  afterAll(async () => {
    for (const session of sessions.values()) await session.close();
    await core.close();
    await source.close();
  });

  async function prefixOf(text: string): Promise<Parameter[]> {
    const batch = new Batch(core.session, core.config);
    const [result] = await batch.prefill([
      {
        past: [{ length: 0, key: empty(), value: empty() }],
        segments: [{ ids: core.tokenizer.encode(text) }],
        branches: [],
        scored: [],
        sampled: [],
        keep: true,
      },
    ]);
    return prefixFrom(result!.kept!, core.config, null);
  }
  const empty = () => Array.from({ length: core.config.layers }, () => new Float32Array(0));
  const softOf = async (text: string, length: number) =>
    softFrom(
      fitIds(core.tokenizer.encode(text), length),
      await source.read("embed_tokens.weight"),
      core.config.hiddenSize,
    );

  function context(
    template: string,
    method: Method,
    softLengths: number[],
    labels: Record<string, string[]>,
  ): ClassificationContext {
    const sequences = Object.entries(labels).map(([label, texts]) => ({
      label,
      sequences: texts.map(text => core.tokenizer.encode(text)),
    }));
    return {
      template: compileTemplate(template),
      codec: core.tokenizer,
      eos: core.tokenizer.eosIds[0]!,
      softLengths,
      beginning: method === "prefix" ? "all but BOS" : "all",
      maxTokens: 1024,
      room: 1024,
      trie: buildTrie(sequences),
      longest: 8,
      sequences: new Map(sequences.map(each => [each.label, each.sequences])),
      weights: new Map(),
      labelSmoothing: 0,
    };
  }

  const labels = {
    positive: [" positive"],
    negative: [" negative"],
    mixed: [" neither good nor bad"],
    "mixed at best": [" neither good nor bad at all"],
  };

  test.each<[Method, string, number[]]>([
    ["prefix", " {{ input }}\nSentiment:", []],
    ["soft", "{{ soft(4) }}Review: {{ input }}\nSentiment:{{ soft(2) }}", [4, 2]],
  ])("%s: the loss is -log P(label) as it is served", async (method, template, softLengths) => {
    const parameters =
      method === "prefix"
        ? await prefixOf("Review: Great!\nSentiment: positive\n\nReview:")
        : await softOf("Sentiment of a film review", 6);
    const file = promptFileOf(
      {
        method,
        template,
        backbone: core.fingerprint,
        recipe: null,
        verbalizers: null,
        parameters,
        bases: [],
        start: 0,
      },
      core.config,
    );
    const prompt = core.prompt(template, file);
    const about = context(template, method, softLengths, labels);
    for (const label of Object.keys(labels)) {
      const example: Example = { input: reviews[0]![0], label };
      const own = parameters.map(each => ({ ...each, data: each.data.slice() }));
      const trainer = new Trainer({
        gradients: open(method, "classification", own),
        examples: [classificationRows(example, about)],
        parameters: own,
        settings,
      });
      const { loss } = await trainer.step();
      const { scores } = await core.infer(classifyRequest(prompt, reviews[0]![0], labels));
      expect(Math.abs(loss + scores.find(score => score.label === label)!.logprob), label).toBeLessThan(1e-3);
    }
  });

  test("generation: the loss is the mean of -log P of the output's tokens as they are served", async () => {
    const template = " {{ input }}\nAnswer:";
    const parameters = await prefixOf("Question:");
    const file = promptFileOf(
      {
        method: "prefix",
        template,
        backbone: core.fingerprint,
        recipe: null,
        verbalizers: null,
        parameters,
        bases: [],
        start: 0,
      },
      core.config,
    );
    const prompt = core.prompt(template, file);
    const output = " The capital of France is Paris.";
    const about = { ...context(template, "prefix", [], labels) };
    const row = generationRow({ input: "What is the capital of France?", output }, about);
    const trainer = new Trainer({
      gradients: open("prefix", "generation", parameters),
      examples: [[row]],
      parameters,
      settings,
    });
    const { loss } = await trainer.step();
    const { targets } = await core.infer(
      generateRequest(prompt, "What is the capital of France?", {
        maxTokens: 1,
        targets: [output],
        targetsEnd: true,
      }),
    );
    expect(targets![0]!.tokens).toBe(row.next.length);
    expect(loss * row.next.length).toBeCloseTo(-targets![0]!.logprob, 2);
    expect(row.next.at(-1)!.token).toBe(about.eos);
  });

  test("it learns; a run that stopped goes on in the same bits", async () => {
    const about = context(" {{ input }}\nSentiment:", "prefix", [], {
      positive: [" positive"],
      negative: [" negative"],
    });
    const examples = reviews.map(([input, label]) => classificationRows({ input, label }, about));
    const start = await prefixOf("Review:");
    const begin = () => {
      const parameters = start.map(each => ({ ...each, data: each.data.slice() }));
      return new Trainer({
        gradients: open("prefix", "classification", parameters),
        examples,
        parameters,
        settings: { ...settings, average: 0.9 },
      });
    };
    const whole = begin();
    const losses: number[] = [];
    for (let step = 0; step < settings.steps; step++) losses.push((await whole.step()).loss);
    const mean = (from: number[]) => from.reduce((sum, loss) => sum + loss, 0) / from.length;
    expect(mean(losses.slice(-3))).toBeLessThan(0.7 * mean(losses.slice(0, 3)));

    const first = begin();
    for (let step = 0; step < 5; step++) await first.step();
    // Rates are relative to the start of the run, whatever the parameters begin as where it goes on.
    for (const { data } of start) for (const [at, value] of data.entries()) data[at] = 3 * value;
    const second = begin();
    second.restore(structuredClone(first.state()));
    for (let step = 5; step < settings.steps; step++) await second.step();
    for (const [index, { data }] of second.averaged().entries())
      expect(Buffer.from(data.buffer).equals(Buffer.from(whole.averaged()[index]!.data.buffer))).toBe(true);
  });
});

/** Candidates under test, answered by the engine itself: no registry, no HTTP, the same numbers. */
import { type Engine, greedy, type PromptContent } from "../../src/engine/engine.ts";
import { promptDigest } from "../../src/prompt/file.ts";
import { compileTemplate } from "../../src/prompt/template.ts";
import { verbalize } from "../../src/prompt/verbalizer.ts";
import type { Candidate } from "./candidates.ts";

/** Requests under way at once: enough to fill the engine's batches. */
const inFlight = 48;
const deadlineMs = 600_000;

/** A prompt source that holds what it is given. */
export class HeldPrompts {
  readonly #held = new Map<string, PromptContent>();

  hold(template: string): string {
    const digest = promptDigest("hard", template, null);
    this.#held.set(digest, { template, parameters: null });
    return digest;
  }

  async load(digest: string): Promise<PromptContent> {
    const content = this.#held.get(digest);
    if (!content) throw new Error(`no prompt ${digest}`);
    return content;
  }
}

export class Scorer {
  readonly #engine: Engine;
  readonly #prompts: HeldPrompts;

  constructor(engine: Engine, prompts: HeldPrompts) {
    this.#engine = engine;
    this.#prompts = prompts;
  }

  /** Positions of the candidate's KV prefix. */
  async length({ template }: Candidate): Promise<number> {
    return (await this.#engine.inspect({ template, parameters: null })).length;
  }

  /** Natural log of P(label): a row an input, a column a label of `labels`; -Infinity where the search left it out. */
  classify(
    { template, labels }: Candidate,
    inputs: readonly string[],
    scores: "top" | "all",
  ): Promise<number[][]> {
    const prompt = this.#prompts.hold(template);
    const compiled = compileTemplate(template);
    const verbalized = verbalize(labels!, compiled);
    return pooled(inputs, async input => {
      const answer = await this.#engine.infer(
        { kind: "classify", prompt, fields: { [compiled.fields[0]!]: input }, labels: verbalized, scores },
        { deadline: Date.now() + deadlineMs },
      );
      const found = new Map(answer.scores.map(({ label, logprob }) => [label, logprob]));
      return verbalized.map(({ label }) => found.get(label) ?? Number.NEGATIVE_INFINITY);
    });
  }

  /** Greedy texts. */
  generate({ template }: Candidate, inputs: readonly string[], maxTokens: number): Promise<string[]> {
    const prompt = this.#prompts.hold(template);
    const [field] = compileTemplate(template).fields;
    return pooled(inputs, async input => {
      const { text } = await this.#engine.infer(
        {
          kind: "generate",
          prompt,
          fields: { [field!]: input },
          maxTokens,
          ...greedy,
        },
        { deadline: Date.now() + deadlineMs },
      );
      return text.trim();
    });
  }
}

/** In order, a bounded number at a time. */
async function pooled<Item, Result>(
  items: readonly Item[],
  work: (item: Item) => Promise<Result>,
): Promise<Result[]> {
  const results = new Array<Result>(items.length);
  let next = 0;
  const worker = async () => {
    for (let at = next++; at < items.length; at = next++) results[at] = await work(items[at]!);
  };
  await Promise.all(Array.from({ length: inFlight }, worker));
  return results;
}

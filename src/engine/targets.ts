import type { TargetScore } from "../contract/infer.ts";
import type { KvBlock } from "./kv.ts";
import { logSumExp } from "./sampler.ts";
import type { Result } from "./scheduler.ts";
import type { PrefillResult, PrefillWork } from "./work.ts";

/** Tokens of a text that one run scores: each has logits over the whole vocabulary. */
const SCORED = 128;

/**
 * Texts to score: each is a branch behind the row, its last token left out, since nothing follows it. Where they are too
 * many tokens for that, each has runs of its own behind the row's keys and values.
 */
export class Targets {
  readonly texts: readonly string[];
  readonly ids: readonly (readonly number[])[];
  readonly #apart: boolean;

  /** `room`: tokens that may stand behind the row in its run. */
  constructor(texts: readonly string[], ids: readonly (readonly number[])[], room: number) {
    this.texts = texts;
    this.ids = ids;
    this.#apart = sum(ids.map(fed)) > room;
  }

  get branches(): number[][] {
    return this.#apart ? [] : this.ids.map(tokens => tokens.slice(0, -1));
  }

  /** Whether the row's keys and values are needed. */
  get keep(): boolean {
    return this.#apart;
  }

  /** The tokens after which logits are wanted: the trunk's last, then every token of every branch. */
  sampled(trunk: number): number[] {
    if (this.texts.length === 0) return [];
    return [
      trunk - 1,
      ...Array.from({ length: sum(this.branches.map(({ length }) => length)) }, (_, at) => trunk + at),
    ];
  }

  /** log P(text | what came before), from the row's result and what it saw. */
  *score(
    { logits, kept }: PrefillResult,
    past: readonly KvBlock[],
  ): Generator<PrefillWork[], TargetScore[], Result> {
    if (this.#apart) return yield* this.#scoreApart(logits[0]!.slice(), [...past, kept!]);
    let next = 1;
    return this.texts.map((text, index) => {
      const ids = this.ids[index]!;
      let logprob = 0;
      for (const [at, token] of ids.entries())
        logprob += logProbability(at === 0 ? logits[0]! : logits[next++]!, token);
      return { text, logprob, tokens: ids.length };
    });
  }

  *#scoreApart(
    first: Float32Array,
    past: readonly KvBlock[],
  ): Generator<PrefillWork[], TargetScore[], Result> {
    const scores: TargetScore[] = [];
    for (const [index, text] of this.texts.entries()) {
      const ids = this.ids[index]!;
      let logprob = ids.length > 0 ? logProbability(first, ids[0]!) : 0;
      let seen = past;
      for (let from = 0; from < fed(ids); from += SCORED) {
        const part = ids.slice(from, Math.min(from + SCORED, fed(ids)));
        const keep = from + SCORED < fed(ids);
        const work = { past: seen, segments: [{ ids: [...part] }], branches: [], scored: [] };
        const { prefilled } = yield [{ ...work, sampled: [...part.keys()], keep }];
        const { logits, kept } = prefilled![0]!;
        for (const [at, row] of logits.entries()) logprob += logProbability(row, ids[from + at + 1]!);
        if (keep) seen = [...seen, kept!];
      }
      scores.push({ text, logprob, tokens: ids.length });
    }
    return scores;
  }
}

const fed = (ids: readonly number[]): number => Math.max(0, ids.length - 1);
const sum = (numbers: readonly number[]): number => numbers.reduce((total, each) => total + each, 0);
const logProbability = (row: Float32Array, token: number): number => row[token]! - logSumExp(row);

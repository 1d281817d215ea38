import type { Segment } from "../backbone/feeds.ts";
import type { FinishReason, TargetScore, TokenLogprob } from "../contract/infer.ts";
import type { Constraint } from "./constraint.ts";
import { feed } from "./feed.ts";
import type { KvBlock } from "./kv.ts";
import {
  argmax,
  checkNumbers,
  largest,
  logSumExp,
  penalise,
  type SamplingOptions,
  sample,
} from "./sampler.ts";
import type { Program, Seats } from "./scheduler.ts";
import { StopText } from "./stop.ts";
import type { Targets } from "./targets.ts";
import type { NextToken } from "./work.ts";

export interface GenerateRow {
  past: readonly KvBlock[];
  segments: readonly Segment[];
  targets: Targets;
  sampling: SamplingOptions;
  random: () => number;
  /** Tokens of prompt and input, for the repetition penalty. */
  context: readonly number[];
  maxTokens: number;
  stop: readonly string[];
  eos: ReadonlySet<number>;
  logprobs: number | null;
  constraint: Constraint | null;
  /** Turns tokens into text, complete characters only. */
  decoder: Decoder;
  show: (token: number) => string;
  onToken: (token: { index: number; text: string; logprob?: number }) => void;
}

export interface Decoder {
  push(token: number): string;
  end(): string;
}

export interface Generated {
  /** Lacks what the decoder still holds if a constraint is left open at `maxTokens`: `closed` goes on from there. */
  text: string;
  finishReason: FinishReason;
  tokens: number;
  logprobs: TokenLogprob[];
  targets: TargetScore[];
}

/** Prefill, then one token a step until EOS, a stop text or `maxTokens`. Y ends with EOS, which is not part of the text. */
export function* generate(row: GenerateRow, seats: Seats): Program<Generated> {
  const { result, past } = yield* feed(row.past, row.segments, {
    branches: row.targets.branches,
    scored: [],
    sampled: trunk => (row.targets.texts.length > 0 ? row.targets.sampled(trunk) : [trunk - 1]),
    keep: row.maxTokens > 1 || row.targets.keep,
  });
  // A view, which targets that have runs of their own would outlive.
  const first = row.targets.keep ? result.logits[0]!.slice() : result.logits[0]!;
  const targets = yield* row.targets.score(result, past);
  const { choose, greedy } = chooser(row);
  const text = new StopText(row.stop);
  const logprobs: TokenLogprob[] = [];
  let finishReason: FinishReason = "length";
  let tokens = 0;
  checkNumbers(first);
  let next: NextToken = { best: argmax(first), logits: first };
  let seat = null as ReturnType<Seats["take"]> | null;
  try {
    while (true) {
      const { token, logprob } = choose(next);
      tokens++;
      if (row.eos.has(token)) {
        finishReason = "stop";
        break;
      }
      if (logprob) logprobs.push(logprob);
      const shown = text.push(row.decoder.push(token));
      row.onToken({ index: tokens - 1, text: shown, ...(logprob && { logprob: logprob.logprob }) });
      if (text.stopped) {
        finishReason = "stop";
        break;
      }
      if (tokens === row.maxTokens) break;
      seat ??= seats.take([...past, result.kept!]);
      next = (yield { kind: "decode", seat, token, logits: !greedy, ready: row.constraint?.settled?.() })
        .next!;
    }
  } finally {
    if (seat) seats.leave(seat);
  }
  const open = finishReason === "length" && row.constraint?.close;
  const rest = text.end(open ? "" : row.decoder.end());
  if (rest !== "") row.onToken({ index: tokens, text: rest });
  return { text: text.text, finishReason, tokens, logprobs, targets };
}

/** What brings a text that was cut at `maxTokens` to an end which its constraint takes; the model is not asked. */
export async function closed(
  { finishReason, tokens }: Generated,
  { constraint, decoder, eos, onToken }: Pick<GenerateRow, "constraint" | "decoder" | "eos" | "onToken">,
): Promise<{ text: string; tokens: number }> {
  if (finishReason !== "length" || !constraint?.close) return { text: "", tokens: 0 };
  const closing = (await constraint.close()).filter(token => !eos.has(token));
  const text = closing.map(token => decoder.push(token)).join("") + decoder.end();
  if (text !== "") onToken({ index: tokens, text });
  return { text, tokens: closing.length };
}

/** Constraint, penalty and sampling; log-probabilities are the model's own, before any of them. */
function chooser({ sampling, random, context, constraint, logprobs, show }: GenerateRow) {
  const seen = new Set(sampling.repetitionPenalty === 1 ? [] : context);
  const changed = sampling.repetitionPenalty !== 1 || constraint !== null;
  const greedy = sampling.temperature === 0 && !changed && logprobs === null;
  const choose = (next: NextToken): { token: number; logprob: TokenLogprob | null } => {
    if (greedy) return { token: next.best, logprob: null };
    const raw = next.logits!;
    checkNumbers(raw);
    const logits = changed ? raw.slice() : raw;
    if (sampling.repetitionPenalty !== 1) penalise(logits, seen, sampling.repetitionPenalty);
    constraint?.mask(logits);
    const token = sample(logits, sampling, random);
    constraint?.accept(token);
    seen.add(token);
    if (logprobs === null) return { token, logprob: null };
    const total = logSumExp(raw);
    const of = (id: number) => ({ token: show(id), logprob: raw[id]! - total });
    return { token, logprob: { ...of(token), top: largest(raw, logprobs).map(of) } };
  };
  return { choose, greedy };
}

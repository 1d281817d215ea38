/** Choosing the next token from its logits. Pure functions; natural logs. */
import { ForewordError } from "../errors.ts";

export interface SamplingOptions {
  /** 0 is greedy. */
  temperature: number;
  topP: number;
  /** 0 is all. */
  topK: number;
  /** Above 1 makes tokens that occurred less likely (Keskar et al. 2019). */
  repetitionPenalty: number;
}

/** Uniform numbers in [0, 1): SplitMix32, reproducible from its seed. */
export function randomFrom(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x9e3779b9) >>> 0;
    let z = state;
    z = Math.imul(z ^ (z >>> 16), 0x85ebca6b);
    z = Math.imul(z ^ (z >>> 13), 0xc2b2ae35);
    return ((z ^ (z >>> 16)) >>> 0) / 2 ** 32;
  };
}

/** Throws `bad_tensor` where logits are not numbers: only a prompt's parameters can cause that. */
export function checkNumbers(logits: ArrayLike<number>): void {
  for (let i = 0; i < logits.length; i++) if (!(logits[i]! < Infinity)) throw notNumbers();
}

const notNumbers = () =>
  new ForewordError(
    "bad_tensor",
    "The prompt's parameters drive the backbone out of range: its scores are not numbers. Train the prompt again with a lower learning rate.",
  );

/** log Σ exp. Throws `bad_tensor` where the logits are not numbers. */
export function logSumExp(logits: ArrayLike<number>): number {
  let top = -Infinity;
  for (let i = 0; i < logits.length; i++) if (logits[i]! > top) top = logits[i]!;
  let sum = 0;
  for (let i = 0; i < logits.length; i++) sum += Math.exp(logits[i]! - top);
  const result = top + Math.log(sum);
  if (Number.isNaN(result)) throw notNumbers();
  return result;
}

export function argmax(logits: ArrayLike<number>): number {
  let best = 0;
  for (let i = 1; i < logits.length; i++) if (logits[i]! > logits[best]!) best = i;
  return best;
}

/** Divides positive logits of seen tokens by the penalty and multiplies negative ones, in place. */
export function penalise(logits: Float32Array, seen: Iterable<number>, penalty: number): void {
  for (const token of seen)
    logits[token] = logits[token]! > 0 ? logits[token]! / penalty : logits[token]! * penalty;
}

/** The next token. `logits` may hold -Infinity for what is not allowed; not all of them. */
export function sample(logits: Float32Array, options: SamplingOptions, random: () => number): number {
  const { temperature, topK, topP } = options;
  if (temperature === 0) return argmax(logits);
  const candidates = topK > 0 && topK < logits.length ? largest(logits, topK) : sorted(logits, topP);
  // Less the top first: divided by a temperature near 0, they would be infinite.
  const top = candidates.reduce((most, token) => Math.max(most, logits[token]!), -Infinity);
  const scaled = candidates.map(token => (logits[token]! - top) / temperature);
  const total = logSumExp(scaled);
  const weights = scaled.map(value => Math.exp(value - total));
  let mass = 0;
  let count = 0;
  while (count < weights.length && mass < topP) mass += weights[count++]!;
  let at = random() * mass;
  for (let i = 0; i < count; i++) {
    at -= weights[i]!;
    if (at < 0) return candidates[i]!;
  }
  return candidates[count - 1]!;
}

/** From so many on, sorting all is faster than keeping the best in order. */
const SORTED = 256;

/** The `count` best tokens, best first; of equal ones the first. */
export function largest(logits: Float32Array, count: number): number[] {
  if (count >= SORTED)
    return allowed(logits)
      .sort((a, b) => logits[b]! - logits[a]!)
      .slice(0, count);
  const best: number[] = [];
  for (let token = 0; token < logits.length; token++) {
    const value = logits[token]!;
    if (value === -Infinity || (best.length === count && value <= logits[best[count - 1]!]!)) continue;
    let at = best.length;
    while (at > 0 && logits[best[at - 1]!]! < value) at--;
    best.splice(at, 0, token);
    if (best.length > count) best.pop();
  }
  return best;
}

/** All tokens in vocabulary order where nothing is cut off; else those that could matter, best first. */
function sorted(logits: Float32Array, topP: number): number[] {
  const tokens = allowed(logits);
  return topP < 1 ? tokens.sort((a, b) => logits[b]! - logits[a]!) : tokens;
}

function allowed(logits: Float32Array): number[] {
  const tokens: number[] = [];
  for (let token = 0; token < logits.length; token++) if (logits[token]! > -Infinity) tokens.push(token);
  return tokens;
}

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
  const top = argmax(logits);
  if (temperature === 0) return top;
  // Less the top first: divided by a temperature near 0, they would be infinite.
  const weight = (logit: number) => Math.exp((logit - logits[top]!) / temperature);
  const few = topK > 0 && topK < logits.length;
  const candidates = few ? best(logits, topK) : logits;
  let total = 0;
  for (let i = 0; i < candidates.length; i++) total += weight(candidates[i]!);
  if (Number.isNaN(total)) throw notNumbers();
  if (topP === 1 && !few) return draw(logits, weight, random() * total);
  // What weighs less than this has less than 1 - top_p together, so that the nucleus is whole without it.
  const least = logits[top]! + temperature * Math.log(((1 - topP) * total) / logits.length);
  const ranked = few ? candidates : descending(above(logits, least));
  let mass = 0;
  let count = 0;
  while (count < ranked.length && mass < topP * total) mass += weight(ranked[count++]!);
  const drawn = draw(ranked.subarray(0, count), weight, random() * mass);
  return tokenOf(logits, ranked, drawn);
}

/** Where the running sum of the values' weights passes `at`. */
function draw(values: Float32Array, weight: (value: number) => number, at: number): number {
  let left = at;
  let last = 0;
  for (let i = 0; i < values.length; i++) {
    const part = weight(values[i]!);
    left -= part;
    if (left < 0) return i;
    if (part > 0) last = i;
  }
  return last;
}

/** The token whose logit stands at `rank`; of equal ones the first comes first. */
function tokenOf(logits: Float32Array, ranked: Float32Array, rank: number): number {
  const value = ranked[rank]!;
  let token = logits.indexOf(value);
  for (let before = rank - ranked.indexOf(value); before > 0; before--)
    token = logits.indexOf(value, token + 1);
  return token;
}

/** The `count` best tokens, best first; of equal ones the first. */
export function largest(logits: Float32Array, count: number): number[] {
  const least = best(logits, count).at(-1) ?? Number.POSITIVE_INFINITY;
  const tokens: number[] = [];
  for (let token = 0; token < logits.length; token++)
    if (logits[token]! >= least && logits[token]! > -Infinity) tokens.push(token);
  return tokens.sort((a, b) => logits[b]! - logits[a]!).slice(0, count);
}

/** The `count` largest values, largest first. */
function best(values: Float32Array, count: number): Float32Array {
  const from = Math.max(0, values.length - count);
  return descending(selected(values.slice(), from).subarray(from));
}

/** Without a comparator, which takes ten times as long. */
const descending = (values: Float32Array): Float32Array => values.sort().reverse();

function above(values: Float32Array, least: number): Float32Array {
  const found = new Float32Array(values.length);
  let count = 0;
  for (let i = 0; i < values.length; i++) if (values[i]! >= least) found[count++] = values[i]!;
  return found.subarray(0, count);
}

/** Reorders `values` so that none before `at` is larger than any from there on (Hoare 1961, quickselect). */
function selected(values: Float32Array, at: number): Float32Array {
  let low = 0;
  let high = values.length - 1;
  while (low < high) {
    const pivot = values[(low + high) >>> 1]!;
    let left = low;
    let right = high;
    while (left <= right) {
      while (values[left]! < pivot) left++;
      while (values[right]! > pivot) right--;
      if (left > right) break;
      const value = values[left]!;
      values[left++] = values[right]!;
      values[right--] = value;
    }
    if (at <= right) high = right;
    else if (at >= left) low = left;
    else break;
  }
  return values;
}

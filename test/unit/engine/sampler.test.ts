/** Sampling against a reference that sorts the whole distribution and walks its sums. */
import fc from "fast-check";
import { expect, test } from "vitest";
import { generate } from "../../../src/engine/generate.ts";
import { largest, randomFrom, type SamplingOptions, sample } from "../../../src/engine/sampler.ts";
import type { Seats } from "../../../src/engine/scheduler.ts";
import { Targets } from "../../../src/engine/targets.ts";

interface Share {
  token: number;
  /** The sums before and behind it. */
  from: number;
  to: number;
}

/** In the order in which they are drawn; null where rounding decides what the nucleus ends with. */
function reference(logits: Float32Array, { temperature, topP, topK }: SamplingOptions): Share[] | null {
  const cut = topP < 1 || (topK > 0 && topK < logits.length);
  const all = [...logits.keys()].filter(token => logits[token]! > -Infinity);
  const tokens = cut ? all.sort((a, b) => logits[b]! - logits[a]! || a - b) : all;
  const few = cut && topK > 0 ? tokens.slice(0, topK) : tokens;
  const top = Math.max(...few.map(token => logits[token]!));
  const weights = few.map(token => Math.exp((logits[token]! - top) / temperature));
  const total = weights.reduce((sum, weight) => sum + weight, 0);
  let mass = 0;
  const shares: Share[] = [];
  for (const [at, token] of few.entries()) {
    if (topP < 1 && Math.abs(mass - topP) < 1e-9) return null;
    if (mass >= topP) break;
    const share = weights[at]! / total;
    shares.push({ token, from: mass, to: mass + share });
    mass += share;
  }
  return shares.map(({ token, from, to }) => ({ token, from: from / mass, to: to / mass }));
}

const options = { temperature: 1, topP: 1, topK: 0, repetitionPenalty: 1 };
const settings = fc.record({
  temperature: fc.constantFrom(0.05, 0.7, 1, 3, 10),
  topP: fc.oneof(
    fc.constant(1),
    fc.constantFrom(1e-9, 0.1, 0.5, 0.9, 0.999),
    fc.double({ min: 0.01, max: 0.99, noNaN: true }),
  ),
  topK: fc.oneof(fc.constant(0), fc.integer({ min: 1, max: 12 }), fc.integer({ min: 1, max: 400 })),
  repetitionPenalty: fc.constant(1),
});
/** Whole numbers are often equal. */
const logit = fc.oneof(
  fc.integer({ min: -6, max: 6 }),
  fc.double({ min: -20, max: 20, noNaN: true }),
  fc.constantFrom(-Infinity, -0, 0),
);

test("every token is drawn by exactly the numbers that its share says", () => {
  fc.assert(
    fc.property(fc.array(logit, { minLength: 1, maxLength: 400 }), settings, (values, options) => {
      const logits = Float32Array.from([...values, 0.5]);
      const shares = reference(logits, options);
      fc.pre(shares !== null);
      const before = logits.slice();
      for (const { token, from, to } of shares!) {
        if (to - from < 1e-6) continue;
        for (const at of [from + 1e-9, (from + to) / 2, to - 1e-9])
          expect(sample(logits, options, () => at)).toBe(token);
      }
      expect(logits).toEqual(before);
    }),
    { numRuns: 500 },
  );
});

test.each([
  ["the softmax", {}],
  ["a nucleus", { topP: 0.9 }],
  ["a nucleus of nearly all", { topP: 0.9999 }],
  ["a nucleus of nearly even ones", { topP: 0.9, temperature: 10 }],
  ["many of the best", { topK: 3000 }],
  ["many of the best, and their nucleus", { topK: 3000, topP: 0.7 }],
])("of a whole vocabulary: %s", (_, more) => {
  const random = randomFrom(5);
  // In steps, so that many are equal.
  const logits = Float32Array.from(
    { length: 49_152 },
    () => Math.round(200 * (random() + random()) ** 2) / 50,
  );
  const all = { ...options, ...more };
  const shares = reference(logits, all)!;
  for (let draw = 0; draw < 300; draw++) {
    const at = random();
    const expected = shares.find(({ to }) => at < to)!;
    if (Math.min(at - expected.from, expected.to - at) < 1e-10) continue;
    expect(sample(logits, all, () => at)).toBe(expected.token);
  }
  expect(sample(logits, all, () => 0)).toBe(shares[0]!.token);
  expect(sample(logits, all, () => 1 - 2 ** -32)).toBe(
    shares.findLast(({ from }) => from < 1 - 2 ** -32)!.token,
  );
});

test("the largest of many are those of a sort, of equal ones the first", () => {
  const random = randomFrom(6);
  const logits = Float32Array.from({ length: 5000 }, () => Math.floor(random() * 100));
  const sorted = [...logits.keys()].sort((a, b) => logits[b]! - logits[a]! || a - b);
  for (const count of [0, 1, 20, 255, 256, 300, 4999, 5000, 6000])
    expect(largest(logits, count)).toEqual(sorted.slice(0, count));
});

test.each([
  ["a nucleus", { topP: 0.5 }],
  ["a temperature", { temperature: 3 }],
  ["a penalty", { repetitionPenalty: 2 }],
  ["the best one", { temperature: 0 }],
])("with %s, log-probabilities are the model's own", (_, more) => {
  const logits = Float32Array.of(1, 3, -2, 2.5, 0);
  const program = generate(
    {
      past: [],
      segments: [{ ids: [1] }],
      targets: new Targets([], [], 0),
      sampling: { ...options, ...more },
      random: () => 0.99,
      context: [1],
      maxTokens: 1,
      stop: [],
      eos: new Set([9]),
      logprobs: 2,
      constraint: null,
      decoder: { push: String, end: () => "" },
      show: String,
      onToken: () => {},
    },
    {} as Seats,
  );
  program.next();
  const prefilled = [{ scores: [], logits: [logits], kept: null }];
  const { value } = program.next({ prefilled, next: null }) as IteratorReturnResult<{
    logprobs: { token: string; logprob: number; top: unknown[] }[];
  }>;
  const sum = [1, 3, -2, 2.5, 0].reduce((sum, each) => sum + Math.exp(each), 0);
  const own = (token: number) => ({
    token: String(token),
    logprob: expect.closeTo(logits[token]! - Math.log(sum), 12),
  });
  const [{ token, logprob, top }] = value.logprobs as [(typeof value.logprobs)[number]];
  expect({ token, logprob }).toEqual(own(Number(token)));
  expect(top).toEqual([own(1), own(3)]);
});

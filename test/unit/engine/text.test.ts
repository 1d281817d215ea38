import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { choiceConstraint, choiceText } from "../../../src/engine/constraint.ts";
import { boundFields, fitRow } from "../../../src/engine/fit.ts";
import { largest, logSumExp, penalise, randomFrom, sample } from "../../../src/engine/sampler.ts";
import { StopText } from "../../../src/engine/stop.ts";

describe("stop texts", () => {
  test("any text in any pieces ends before the first stop, and shows nothing that it takes back", () => {
    const letters = fc.string({ unit: fc.constantFrom("a", "b", "好", "😀"), maxLength: 20 });
    const stops = fc.array(fc.string({ unit: fc.constantFrom("a", "b", "好"), minLength: 1, maxLength: 3 }), {
      maxLength: 3,
    });
    fc.assert(
      fc.property(fc.array(letters, { maxLength: 8 }), stops, (pieces, stops) => {
        const text = new StopText(stops);
        let shown = "";
        for (const piece of pieces) {
          shown += text.push(piece);
          if (text.stopped) break;
        }
        shown += text.end("");
        const whole = pieces.join("");
        // Letter by letter, until a stop text is whole.
        let read = "";
        let cut: string | undefined;
        for (const letter of whole) {
          read += letter;
          [cut] = stops.filter(stop => read.endsWith(stop)).sort((a, b) => b.length - a.length);
          if (cut !== undefined) break;
        }
        const expected = cut === undefined ? whole : read.slice(0, read.length - cut.length);
        expect(shown).toBe(expected);
        expect(text.text).toBe(expected);
        expect(text.stopped).toBe(cut !== undefined);
      }),
      {
        numRuns: 500,
        examples: [
          [
            ["好b", "b"],
            ["b", "好bb"],
          ],
        ],
      },
    );
  });
});

describe("sampling", () => {
  const logits = Float32Array.of(2, 1, 0, -1, -Infinity, 0.5);
  const options = { temperature: 1, topP: 1, topK: 0, repetitionPenalty: 1 };
  /** How often each token is drawn. */
  const frequencies = (more: object) => {
    const random = randomFrom(3);
    const counts = new Array<number>(logits.length).fill(0);
    for (let i = 0; i < 20_000; i++) counts[sample(logits, { ...options, ...more }, random)]!++;
    return counts.map(count => count / 20_000);
  };
  const softmax = (kept: readonly number[], temperature = 1) => {
    const weights = [...logits].map((logit, token) =>
      kept.includes(token) ? Math.exp(logit / temperature) : 0,
    );
    const total = weights.reduce((sum, weight) => sum + weight, 0);
    return weights.map(weight => weight / total);
  };
  const all = [0, 1, 2, 3, 5];

  test.each<[string, object, number[]]>([
    ["the softmax", {}, softmax(all)],
    ["with a temperature", { temperature: 2 }, softmax(all, 2)],
    ["of the best two", { topK: 2 }, softmax([0, 1])],
    // 0.53 + 0.20 + 0.12: the third carries the mass over 0.8.
    ["of a nucleus", { topP: 0.8 }, softmax([0, 1, 5])],
    ["of the best alone", { temperature: 0 }, softmax([0])],
    ["of the best alone, nearly", { temperature: 1e-308 }, softmax([0])],
  ])("draws from %s", (_, more, expected) => {
    for (const [token, frequency] of frequencies(more).entries())
      expect(Math.abs(frequency - expected[token]!)).toBeLessThan(0.015);
  });

  test("one seed, one sequence; values in [0, 1)", () => {
    const take = (seed: number) => Array.from({ length: 1000 }, randomFrom(seed));
    expect(take(5)).toEqual(take(5));
    expect(take(5)).not.toEqual(take(6));
    for (const value of take(7)) expect(value >= 0 && value < 1).toBe(true);
  });

  test("a repetition penalty makes seen tokens less likely, whatever their sign", () => {
    const penalised = logits.slice();
    penalise(penalised, [0, 3], 2);
    expect([...penalised]).toEqual([1, 1, 0, -2, -Infinity, 0.5]);
  });

  test("the largest are those of a sort", () => {
    fc.assert(
      fc.property(
        fc.array(fc.integer({ min: -20, max: 20 }), { minLength: 1 }),
        fc.oneof(fc.nat(8), fc.constantFrom(254, 255, 300)),
        (values, count) => {
          const sorted = values.map((_, token) => token).sort((a, b) => values[b]! - values[a]! || a - b);
          expect(largest(Float32Array.from(values), count + 1)).toEqual(sorted.slice(0, count + 1));
        },
      ),
    );
  });

  test("logits that are not numbers are the prompt's fault", () => {
    expect(logSumExp([0, 0])).toBeCloseTo(Math.log(2), 12);
    expect(() => logSumExp([0, Number.NaN])).toThrow(expect.objectContaining({ code: "bad_tensor" }));
  });
});

test("choices: only what goes on with one of them, and EOS where one is whole", () => {
  const constraint = choiceConstraint([[1], [1, 2], [3, 4]], 0);
  const allowed = () => {
    const logits = new Float32Array(6);
    constraint.mask(logits);
    return [...logits.entries()].flatMap(([token, logit]) => (logit === -Infinity ? [] : [token]));
  };
  expect(allowed()).toEqual([1, 3]);
  constraint.accept(1);
  expect(allowed()).toEqual([0, 2]);
  constraint.accept(2);
  expect(allowed()).toEqual([0]);
});

test("a choice is told as it was written, as soon as nothing else may follow", () => {
  // In NFC both of the first are the same, and the vocabulary knows no capitals.
  const choices = ["cafe\u0301", "caf\u00e9", "Caf", "CAFTAN 😀", "caftan 😁"];
  const tokens = [[1, 2], [1, 2], [1], [1, 3, 4], [1, 3, 5]];
  const told = (ids: number[]) => {
    const text = choiceText(choices, tokens);
    return [...ids.map(id => text.push(id)), text.end()];
  };
  // The first of those that are the same tokens.
  expect(told([1, 2])).toEqual(["", "caf", "e\u0301"]);
  expect(told([1])).toEqual(["", "Caf"]);
  expect(told([1, 3, 5])).toEqual(["", "", "caftan 😁", ""]);
  const pair = choiceText(
    ["a 😀", "a 😁b"],
    [
      [1, 2, 3],
      [1, 2, 4, 5],
    ],
  );
  expect([1, 2, 4, 5].map(id => pair.push(id))).toEqual(["a ", "", "😁b", ""]);
  expect(pair.end()).toBe("");
});

describe("rows that are too long", () => {
  const row = [{ ids: [1, 2] }, { ids: [3, 4, 5, 6], field: "a" }, { ids: [7] }, { ids: [8, 9], field: "b" }];
  const ids = (segments: readonly object[]) => segments.map(segment => (segment as { ids: number[] }).ids);

  test("what fits is left alone", () => {
    expect(fitRow(row, 9, undefined)).toEqual(row);
  });
  test("only fields are cut, from the end that was named", () => {
    expect(ids(fitRow(row, 7, "start"))).toEqual([[1, 2], [5, 6], [7], [8, 9]]);
    expect(ids(fitRow(row, 6, "end"))).toEqual([[1, 2], [3, 4, 5], [7], []]);
  });
  test("of texts that are far too long no more is encoded than six characters a position", () => {
    let encoded = 0;
    /** A token for two letters, none for a dot. */
    const encode = (text: string) => {
      encoded = Math.max(encoded, text.length);
      return Array<number>(Math.ceil(text.replaceAll(".", "").length / 2)).fill(0);
    };
    const bound = (input: Parameters<typeof boundFields>[0], truncate?: "start" | "end") =>
      boundFields(input, ["a", "b", "messages"], 30, encode, truncate);
    const long = "abcdefghij".repeat(100);
    expect(bound(long.slice(0, 180))).toBe(long.slice(0, 180));
    expect(() => bound({ a: long })).toThrow(
      expect.objectContaining({
        code: "input_too_long",
        fields: { field: "a", tokens: 90, limit: 30, over: 60 },
      }),
    );
    expect(() => bound(".".repeat(1000))).toThrow(/6 characters .* 30 positions .* Shorten/);
    expect(encoded).toBe(180);
    // As often as the template writes it.
    const twice = (cut?: "start") => boundFields({ a: long.slice(0, 100) }, ["a", "a"], 30, encode, cut);
    expect(twice).toThrow(/^a: /);
    expect(twice("start")).toEqual({ a: long.slice(10, 100) });
    // All of them together, and the first to say so.
    expect(() => bound({ b: long.slice(0, 90), a: long.slice(0, 100) })).toThrow(/^b: /);
    expect(bound(long, "start")).toBe(long.slice(-180));
    expect(bound(`${"😀".repeat(200)}.`, "start")).toBe(`${"😀".repeat(89)}.`);
    expect(bound(`.${"😀".repeat(200)}`, "end")).toBe(`.${"😀".repeat(89)}`);
    expect(encoded).toBe(180);
    // As the row is cut: its last fields from the end, its first ones from the start, and none until it is empty.
    const messages = ["x", long].map(content => ({ role: "user", content }));
    const lengths = (truncate: "start" | "end") => {
      const {
        a,
        b,
        messages: cut,
      } = bound({ messages, b: long.slice(0, 100), a: "yy" }, truncate) as {
        a: string;
        b: string;
        messages: typeof messages;
      };
      return [a, b, ...cut.map(({ content }) => content)].map(text => text.length);
    };
    expect(lengths("end")).toEqual([2, 100, 1, 77]);
    expect(lengths("start")).toEqual([2, 64, 1, 180]);
  });
  test("what cannot be cut is refused with figures", () => {
    expect(() => fitRow(row, 7, undefined)).toThrow(
      expect.objectContaining({ code: "input_too_long", fields: { tokens: 9, limit: 7, over: 2 } }),
    );
    expect(() => fitRow(row, 3, "end")).toThrow(/template is too long/);
  });
});

/** Labels and lists in tokens: found again by their texts, and no more of them than the limit. */
import { beforeEach, expect, test } from "vitest";
import type { Tokenizer } from "../../../src/backbone/tokenizer.ts";
import { LabelCache } from "../../../src/engine/label-cache.ts";
import { RequestTexts } from "../../../src/engine/request-texts.ts";
import type { VerbalizedLabel } from "../../../src/prompt/verbalizer.ts";

let encoded: string[];
const encode = (labels: readonly VerbalizedLabel[]) =>
  labels.map(({ label, verbalizers }) => ({
    label,
    sequences: verbalizers.map(text => {
      encoded.push(text);
      return [...text].map(letter => letter.charCodeAt(0));
    }),
  }));
beforeEach(() => {
  encoded = [];
});

const labels = (texts: Record<string, string[]>): VerbalizedLabel[] =>
  Object.entries(texts).map(([label, verbalizers]) => ({ label, verbalizers }));

test("a copy of the same labels is not encoded again, others are", () => {
  const cache = new LabelCache(1e6);
  const first = cache.take(labels({ a: ["xy", "z"], b: ["w"] }), encode);
  expect(encoded).toEqual(["xy", "z", "w"]);
  expect(first.trie.labels).toEqual(["a", "b"]);
  const again = cache.take(labels({ a: ["xy", "z"], b: ["w"] }), encode);
  expect(again.trie).toBe(first.trie);
  expect(encoded).toHaveLength(3);
  // The same texts of other labels, in another order, or otherwise divided among them.
  for (const other of [
    { a: ["z", "xy"], b: ["w"] },
    { b: ["w"], a: ["xy", "z"] },
    { a: ["xy"], b: ["z", "w"] },
    { a: ["xy", "z"], c: ["w"] },
  ]) {
    const found = cache.take(labels(other), encode);
    expect(found.sequences).toEqual(encode(labels(other)));
    expect(found.trie.labels).toEqual(Object.keys(other));
  }
});

test("those that were not asked for for longest go first; what is too large by itself is not kept", () => {
  // A token takes 900 bytes and more: two of three letters fit, three don't.
  const cache = new LabelCache(7000);
  const ask = (text: string) => {
    encoded = [];
    cache.take(labels({ a: [text] }), encode);
    return encoded.length === 0;
  };
  expect(["one", "two", "one", "six", "one", "two", "one"].map(ask)).toEqual([
    false,
    false,
    true,
    false,
    true,
    false,
    true,
  ]);
  const large = labels({ a: ["a long text of many letters"] });
  for (const _ of [1, 2]) cache.take(large, encode);
  expect(encoded).toHaveLength(1);
  expect(ask("a long text of many letters")).toBe(false);
  expect(ask("one")).toBe(true);
});

test("what is refused is not kept", () => {
  const cache = new LabelCache(1e6);
  for (const _ of [1, 2])
    expect(() => cache.take(labels({ a: ["x"], b: ["x"] }), encode)).toThrow(
      expect.objectContaining({ code: "duplicate_verbalizer" }),
    );
  expect(encoded).toHaveLength(4);
});

test("each input of a request brings its list again, and it is encoded once", () => {
  const tokenizer = {
    eosIds: [9],
    encode: (text: string) => {
      encoded.push(text);
      return [...text].filter(letter => letter !== "?").map(letter => letter.charCodeAt(0));
    },
  };
  const texts = new RequestTexts(tokenizer as unknown as Tokenizer, 100);
  const list = ["ab", "", "c"];
  const found = [1, 2, 3].map(() => texts.targets({ targets: structuredClone(list), targetsEnd: true }));
  expect(found).toEqual(Array(3).fill([[97, 98, 9], [9], [99, 9]]));
  // An empty target may stand where EOS is behind it; as a choice, or without EOS, the same list is refused.
  expect(() => texts.targets({ targets: structuredClone(list) })).toThrow(/targets: .*no token of ""/);
  expect(() => texts.choices({ choices: structuredClone(list) })).toThrow(/choices: .*no token of ""/);
  expect(encoded).toEqual(list);
  expect(() => texts.choices({ choices: ["x", "?"] })).toThrow(/no token of "\?"/);
  expect(texts.choices({ choices: ["x"] })).toEqual([[120]]);
});

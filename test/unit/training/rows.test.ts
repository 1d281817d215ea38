import { describe, expect, test } from "vitest";
import { compileTemplate } from "../../../src/prompt/template.ts";
import { distilledRows } from "../../../src/training/distil.ts";
import { classificationRows, contextOf, type TrainingRow } from "../../../src/training/rows.ts";
import { characters as codec } from "../../support/characters.ts";

const { encode } = codec;

function contextFor(labels: Record<string, string[]>, labelSmoothing = 0) {
  const plan = {
    method: "prefix",
    template: compileTemplate("{{ input }}:"),
    softLengths: [],
    labelSmoothing,
    classWeights: new Map([["good", 2]]),
    maxTokens: 100,
  } as unknown as Parameters<typeof contextOf>[0];
  const { labels: about, ...context } = contextOf(plan, { labels }, codec, 1000);
  return { ...context, ...about! };
}

/** A score for each token behind each text: any will do. */
const logit = (before: readonly number[], token: number) => Math.sin(1 + 7 * token + 13 * before.length);
const logSoftmax = (before: readonly number[], candidates: readonly number[], chosen: number) =>
  logit(before, chosen) - Math.log(candidates.reduce((sum, each) => sum + Math.exp(logit(before, each)), 0));

/** Of rows whose words are "in:" and what is fed behind it. */
const lossOf = (rows: readonly TrainingRow[]) =>
  rows.reduce((sum, { segments, decisions }) => {
    const ids = segments.flatMap(segment => ("ids" in segment ? segment.ids : []));
    return decisions.reduce(
      (all, { at, candidates, weights }) =>
        all -
        candidates.reduce(
          (one, token, i) => one + weights[i]! * logSoftmax(ids.slice(3, at + 1), candidates, token),
          0,
        ),
      sum,
    );
  }, 0);

/** -log P of a text among all texts, letter by letter; a text that others go on from ends with EOS. */
function spelled(text: string, texts: readonly string[]): number {
  let sum = 0;
  for (let length = 0; length <= text.length; length++) {
    const before = text.slice(0, length);
    const among = texts.filter(each => each.startsWith(before));
    const next = [...new Set(among.map(each => encode(each)[length] ?? 0))];
    if (next.length > 1) sum -= logSoftmax(encode(before), next, encode(text)[length] ?? 0);
  }
  return sum;
}

describe("rows of an example", () => {
  const labels = { good: [" a", " b", " abc", " abd"], bad: [" c", " cde"] };
  const texts = Object.values(labels).flat();

  test("verbalizers of one token each are one row", () => {
    const rows = classificationRows(
      { input: "in", label: "good" },
      contextFor({ good: ["a", "b"], bad: ["c"] }),
    );
    expect(rows.map(({ decisions }) => decisions)).toEqual([
      [{ at: 2, candidates: encode("abc"), weights: [1, 1, 0] }],
    ]);
  });

  test("a row holds what others begin with, and the loss is the mean over the label's verbalizers", () => {
    const rows = classificationRows({ input: "in", label: "good" }, contextFor(labels));
    expect(rows).toHaveLength(1);
    const mean = labels.good.reduce((sum, text) => sum + spelled(text, texts), 0) / labels.good.length;
    expect(lossOf(rows)).toBeCloseTo(2 * mean, 10);
  });

  test("what is smoothed adds up to the example's weight at each decision of a verbalizer", () => {
    const [row] = classificationRows({ input: "in", label: "bad" }, contextFor(labels, 0.1));
    const sums = row!.decisions.map(({ weights }) => weights.reduce((sum, each) => sum + each, 0));
    // Both verbalizers decide after the blank and after "c".
    expect(sums.map(sum => sum.toFixed(10))).toEqual(["1.0000000000", "1.0000000000"]);
  });

  test("a task of one text has rows that decide nothing", () => {
    const rows = classificationRows({ input: "in", label: "only" }, contextFor({ only: ["a"] }));
    expect(rows).toMatchObject([{ decisions: [], length: 3 }]);
  });

  test("a teacher's probabilities weight the same losses", () => {
    const scores = new Map([
      ["good", 0.75],
      ["bad", 0.25],
    ]);
    const rows = distilledRows({ input: "in", label: "" }, scores, contextFor(labels));
    const wanted =
      labels.good.reduce((sum, text) => sum + (0.75 / 4) * spelled(text, texts), 0) +
      labels.bad.reduce((sum, text) => sum + (0.25 / 2) * spelled(text, texts), 0);
    expect(lossOf(rows)).toBeCloseTo(wanted, 10);
  });
});

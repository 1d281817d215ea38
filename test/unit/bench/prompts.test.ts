import { describe, expect, it } from "vitest";
import { libraryTasks } from "../../../bench/prompts/candidates.ts";
import { shots, shuffled } from "../../../bench/prompts/data.ts";
import { accuracy, bleu, likeliest, macroF1 } from "../../../bench/prompts/measure.ts";
import { compileTemplate } from "../../../src/prompt/template.ts";
import { fitBias } from "../../../src/training/evaluation/bias.ts";

describe("measures", () => {
  it("are accuracy and macro F1", () => {
    const gold = ["a", "a", "a", "b"];
    expect(accuracy(gold, ["a", "b", "a", "b"])).toBe(0.75);
    // a: precision 1, recall 2/3; b: precision 1/2, recall 1.
    expect(macroF1(gold, ["a", "b", "a", "b"])).toBeCloseTo((0.8 + 2 / 3) / 2, 12);
    expect(macroF1(gold, ["a", "a", "a", "a"])).toBeCloseTo(6 / 7 / 2, 12);
  });

  // sacrebleu 2.6.0, corpus_bleu with its defaults, on the same texts.
  it.each<[string[], string[][], number]>([
    [
      ["The cat sat on the mat.", "It's a family-friendly pub, near 3.5 stars (cheap)!"],
      [
        ["The cat is on the mat.", "There is a cat on the mat."],
        ["It is a family-friendly pub near 3.5 stars - cheap!"],
      ],
      29.040909944574032,
    ],
    [
      ["Aromi is a coffee shop in the riverside area with a rating of 1-5."],
      [
        [
          "Aromi is an English coffee shop by the riverside; rated 1 out of 5.",
          "In the riverside area there is Aromi, a coffee shop with a low rating.",
        ],
      ],
      20.706193828327603,
    ],
    [["a b c", "x y"], [["a c b"], ["y z w"]], 0.0],
  ])("is sacrebleu's BLEU", (texts, references, score) => {
    expect(bleu(texts, references)).toBeCloseTo(score, 8);
  });
});

describe("fitBias", () => {
  it("undoes a known shift and leaves the mean at 0", () => {
    // Scores whose odds are right but for a shift of 2 towards the first label.
    const rows: number[][] = [];
    const gold: number[] = [];
    for (let at = 0; at < 200; at++) {
      const logit = ((at % 20) - 9.5) / 3;
      const p = 1 / (1 + Math.exp(-logit));
      rows.push([Math.log(p) + 2, Math.log(1 - p)]);
      gold.push(Math.floor(at / 20) < Math.round(p * 10) ? 0 : 1);
    }
    const bias = fitBias(rows, gold);
    expect(bias[0]! + bias[1]!).toBeCloseTo(0, 2);
    expect(bias[0]! - bias[1]!).toBeGreaterThan(-2.15);
    expect(bias[0]! - bias[1]!).toBeLessThan(-1.85);
    // Twice as sure, the same odds in the end: the threshold is at the shift, which doubled too.
    const [first, second] = fitBias(
      rows.map(row => row.map(score => 2 * score)),
      gold,
    );
    expect(first! - second!).toBeCloseTo(2 * (bias[0]! - bias[1]!), 1);
    expect(likeliest([0, -1])).toBe(0);
    expect(likeliest([0, -1], bias)).toBe(1);
  });
});

describe("candidates", () => {
  const train = ["ham", "spam", "positive", "negative", "human", "number"].flatMap(label =>
    Array.from({ length: 20 }, (_, at) => ({
      input: `name[${label}], text number ${at} of it`,
      answer: label,
    })),
  );

  it.each(libraryTasks.map(task => [task.id, task] as const))(
    "of %s compile and have names of their own",
    (_, task) => {
      const list = task.candidates(train);
      expect(new Set(list.map(({ name }) => name)).size).toBe(list.length);
      for (const { template, labels } of list) {
        expect(compileTemplate(template).fields).toEqual(["input"]);
        expect(labels === undefined).toBe(task.type === "generation");
      }
    },
  );

  it("takes the same examples every time, as many of every label", () => {
    const chosen = shots(train, 2, 7);
    expect(shots(train, 2, 7)).toEqual(chosen);
    expect(chosen).toHaveLength(12);
    expect(new Set(chosen.map(({ answer }) => answer)).size).toBe(6);
    expect(shuffled([1, 2, 3, 4, 5], 1).toSorted()).toEqual([1, 2, 3, 4, 5]);
  });
});

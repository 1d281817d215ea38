/** Metrics against other implementations (test/fixtures/metrics/make.py), and what no fixture can say. */
import { readFileSync } from "node:fs";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import type { Example } from "../../../src/contract/dataset.ts";
import { ForewordError } from "../../../src/errors.ts";
import { bleu, bleuCounts, tokens13a } from "../../../src/training/evaluation/bleu.ts";
import { calibrationError, fitTemperature } from "../../../src/training/evaluation/calibration.ts";
import { casesOf } from "../../../src/training/evaluation/cases.ts";
import { compare } from "../../../src/training/evaluation/compare.ts";
import { agreed, fitWeights, revoted } from "../../../src/training/evaluation/ensemble.ts";
import { crossFitted, type Labelled } from "../../../src/training/evaluation/judge.ts";
import {
  classifierReport,
  compareLabels,
  confusionOf,
  labelReports,
} from "../../../src/training/evaluation/labels.ts";
import { type Judged, macroF1 } from "../../../src/training/evaluation/metrics.ts";
import { type EvaluateJob, evaluate } from "../../../src/training/evaluation/report.ts";
import { rougeL } from "../../../src/training/evaluation/rouge.ts";
import {
  mcnemar,
  meanBootstrap,
  pairedBootstrap,
  shareOf,
} from "../../../src/training/evaluation/significance.ts";
import { compareTexts, generatorReport } from "../../../src/training/evaluation/texts.ts";
import { writeExamples } from "../../../src/training/examples.ts";
import { lostAsHalf } from "../../../src/training/half.ts";
import type { TrainProgress } from "../../../src/training/job.ts";
import { Shelf } from "../../../src/training/shelf.ts";

const figures = JSON.parse(
  readFileSync(new URL("../../fixtures/metrics/metrics.json", import.meta.url), "utf8"),
);

describe("BLEU is sacrebleu's", () => {
  test.each(figures.tokens as { text: string; tokens: string[] }[])("tokens of $text", ({ text, tokens }) => {
    expect(tokens13a(text)).toEqual(tokens);
  });
  test.each(figures.corpora as { texts: string[]; references: string[][]; bleu: number }[])(
    "corpus %#: $bleu",
    corpus => {
      const counts = corpus.texts.map((text, i) => bleuCounts(text, corpus.references[i]!));
      expect(bleu(counts)).toBeCloseTo(corpus.bleu, 8);
    },
  );
});

describe("ROUGE-L", () => {
  test("is rouge_score's", () => {
    for (const { text, references, f1 } of figures.rouge)
      expect(rougeL(text, references)).toBeCloseTo(f1, 10);
  });
  test("takes each character of a script without spaces as a word", () => {
    expect(rougeL("今天天气好", ["今天天气很好"])).toBeCloseTo(10 / 11, 10);
    expect(rougeL("Größe 5", ["größe 5"])).toBe(1);
    expect(rougeL("", ["word"])).toBe(0);
  });
});

const { classes } = figures;
const judged: Labelled[] = classes.wanted.map((wanted: string, i: number) => {
  const row: number[] = classes.probabilities[i];
  const scores = new Map<string, number>(classes.labels.map((label: string, j: number) => [label, row[j]!]));
  const given = [...scores].reduce((a, b) => (b[1] > a[1] ? b : a))[0];
  const logs = new Map([...scores].map(([label, p]) => [label, Math.log(p)]));
  return { wanted, given, loss: -Math.log(scores.get(wanted)!), scores, members: [logs] };
});

describe("a classifier's report", () => {
  test("has scikit-learn's figures", () => {
    const report = classifierReport(judged, { prompt: 1 }, classes.labels, {});
    expect(report.macro_f1).toBeCloseTo(classes.macro_f1, 10);
    expect(macroF1(judged)).toBe(report.macro_f1);
    expect(report.log_loss).toBeCloseTo(classes.log_loss, 8);
    expect(report.expected_calibration_error).toBeCloseTo(classes.expected_calibration_error, 8);
    for (const expected of classes.by_label) {
      const found = report.labels.find(({ label }) => label === expected.label);
      if (expected.support === 0 && expected.precision === null) expect(found).toBeUndefined();
      else {
        expect(found).toMatchObject({ support: expected.support });
        for (const share of ["precision", "recall"] as const)
          if (expected[share] === null) expect(found![share]).toBeNull();
          else expect(found![share]).toBeCloseTo(expected[share], 10);
      }
    }
    expect(report).not.toHaveProperty("unsure");
    expect(report).not.toHaveProperty("agreement");
  });

  test("has a macro-F1 of the labels that are given too, wanted or not", () => {
    // By hand: a 2/3, b 1, c 0; scikit-learn's f1_score(["a", "a", "b"], ["a", "c", "b"], average="macro") is 5/9.
    const pairs = [..."aab"].map((wanted, i) => ({ wanted, given: "acb"[i]!, loss: null }));
    expect(macroF1(pairs)).toBeCloseTo(5 / 9, 12);
  });

  test("counts every example once in the confusion, most frequent pairs first", () => {
    const cells = confusionOf(judged);
    expect(cells.reduce((sum, { examples }) => sum + examples, 0)).toBe(judged.length);
    expect(cells.map(({ examples }) => examples)).toEqual(
      cells.map(({ examples }) => examples).toSorted((a, b) => b - a),
    );
    for (const { wanted, given, examples } of cells)
      expect(judged.filter(each => each.wanted === wanted && each.given === given)).toHaveLength(examples);
    expect(labelReports([], ["a"])).toEqual([]);
  });

  test("says how many answers are below the threshold, and how good the others are", () => {
    const { unsure } = classifierReport(judged, { prompt: 1, unsure_below: 0.6 }, classes.labels, {});
    const sure = judged.filter(({ scores, given }) => scores.get(given)! >= 0.6);
    expect(unsure!.share).toBeCloseTo(1 - sure.length / judged.length, 12);
    expect(unsure!.accuracy).toBe(sure.filter(({ wanted, given }) => wanted === given).length / sure.length);
  });

  test("fits the temperature of least loss, and is no worse with it", () => {
    // Scores that are three times too sure of themselves.
    const overconfident = judged.map(each => {
      const members = each.members.map(logs => new Map([...logs].map(([label, log]) => [label, 3 * log])));
      return { ...each, members };
    });
    const { calibration } = classifierReport(overconfident, { prompt: 1 }, classes.labels, {
      calibrate: true,
    });
    const plain = classifierReport(judged, { prompt: 1 }, classes.labels, { calibrate: true }).calibration!;
    expect(calibration!.temperature).toBeCloseTo(3 * plain.temperature, 1);
    expect(calibration!.after.log_loss).toBeCloseTo(plain.after.log_loss, 2);
    expect(plain.after.log_loss).toBeLessThan(classes.log_loss + 0.01);
  });
});

describe("a temperature of few examples", () => {
  /** Answers that give "a" a probability of 0.9; `wrong` of them wanted "b". */
  const answers = (count: number, wrong: number): Labelled[] =>
    Array.from({ length: count }, (_, i) => {
      const scores = new Map([
        ["a", 0.9],
        ["b", 0.1],
      ]);
      const wanted = i < wrong ? "b" : "a";
      const members = [new Map([...scores].map(([label, p]) => [label, Math.log(p)]))];
      return { wanted, given: "a", loss: -Math.log(scores.get(wanted)!), scores, members };
    });
  const report = (count: number, wrong: number) =>
    classifierReport(answers(count, wrong), { prompt: 1 }, ["a", "b"], { calibrate: true });

  test("that are all right are taken for n + 1 of n + 2", () => {
    const { temperature } = report(19, 0).calibration!;
    expect(1 / (1 + (0.1 / 0.9) ** (1 / temperature))).toBeCloseTo(20 / 21, 3);
  });

  test("tells how likely chance makes it: one input proves nothing, however often it is repeated", () => {
    // Sure and wrong: any example by itself fits the highest temperature.
    const wrong = (count: number, input: (index: number) => string) =>
      classifierReport(
        answers(count, count).map((each, index) => ({ ...each, input: input(index) })),
        { prompt: 1 },
        ["a", "b"],
        { calibrate: true },
      );
    for (const { log_loss, calibration } of [report(1, 1), wrong(40, () => "x")]) {
      expect(calibration!.temperature).toBeGreaterThan(19);
      expect(calibration!.after.log_loss).toBeLessThan(log_loss);
      expect(calibration!.p_value).toBe(1);
    }
    expect(wrong(40, String).calibration!.p_value).toBeLessThan(0.001);
    expect(wrong(40, index => `${index % 4}`).calibration!.p_value).toBe(0.125);
    // As sure as it is right.
    expect(report(40, 4).calibration!.p_value).toBeGreaterThan(0.05);
  });

  test("makes no mistake of the other half cost any amount", () => {
    const { log_loss, calibration } = report(20, 1);
    expect(calibration!.after.log_loss).toBeLessThan(log_loss + 0.1);
  });
});

test("a temperature is found where the loss is least, from a hundredth to twenty", () => {
  fc.assert(
    fc.property(fc.double({ min: Math.log(0.06), max: Math.log(18), noNaN: true }), least => {
      const found = fitTemperature(temperature => (Math.log(temperature) - least) ** 2);
      expect(Math.abs(Math.log(found) - least)).toBeLessThan(2e-3);
    }),
  );
});

test("a classifier that is as sure as it is right has no calibration error", () => {
  const answers = Array.from({ length: 100 }, (_, i) => ({ probability: 0.75, right: i % 4 !== 0 }));
  expect(calibrationError(answers)).toBeCloseTo(0, 12);
  expect(calibrationError(answers.map(each => ({ ...each, probability: 1 })))).toBeCloseTo(0.25, 12);
  expect(calibrationError([{ probability: 0, right: true }])).toBe(1);
});

describe("significance", () => {
  const pairs = (onlyA: number, onlyB: number) => {
    const row = (right: boolean) => ({ wanted: "x", given: right ? "x" : "y", loss: null });
    const both = Array.from({ length: onlyA + onlyB }, (_, i) => i < onlyA);
    return [both.map(row), both.map(a => row(!a))] as const;
  };
  test.each(figures.mcnemar as { only_a: number; only_b: number; p: number }[])(
    "McNemar of $only_a against $only_b is scipy's binomial test",
    ({ only_a, only_b, p }) => {
      const [a, b] = pairs(only_a, only_b);
      expect(mcnemar(a, b)).toBeCloseTo(p, 10);
    },
  );
  test.each(figures.wilson as { count: number; of: number; low: number; high: number }[])(
    "the interval of $count of $of is Wilson's",
    ({ count, of, low, high }) => {
      const found = shareOf(count, of);
      expect(found.value).toBe(count / of);
      expect(found.low).toBeCloseTo(low, 6);
      expect(found.high).toBeCloseTo(high, 6);
    },
  );
  test("a bootstrap of a mean has the normal interval, and sees a difference that is there alone", () => {
    // Sums of twelve even draws are nearly normal: mean 0, variance 1.
    let state = 1;
    const draw = () => {
      state = (state * 48271) % 2147483647;
      return state / 2147483647;
    };
    const noise = Array.from(
      { length: 400 },
      () => Array.from({ length: 12 }, draw).reduce((a, b) => a + b) - 6,
    );
    const mean = noise.reduce((a, b) => a + b) / noise.length;
    const found = meanBootstrap(noise);
    expect(found.low).toBeCloseTo(mean - 1.96 / 20, 1);
    expect(found.high).toBeCloseTo(mean + 1.96 / 20, 1);
    expect(meanBootstrap(noise.map(value => value - mean)).p).toBeGreaterThan(0.5);
    expect(meanBootstrap(noise.map(value => value - mean + 0.3)).p).toBeLessThan(0.001);
    expect(meanBootstrap(noise)).toEqual(meanBootstrap(noise));
    expect(meanBootstrap([0, 0, 0])).toMatchObject({ low: 0, high: 0, p: 1 });
  });
  test("few examples that differ alike prove no more than their signs would", () => {
    for (const [count, p] of [
      [1, 1],
      [2, 0.5],
      [5, 0.0625],
      [6, 0.03125],
    ] as const)
      expect(meanBootstrap(Array.from({ length: count }, (_, i) => -0.001 * (i + 1))).p, `${count}`).toBe(p);
  });
  test("several texts for one input are one example of a comparison", () => {
    const examples = Array.from({ length: 30 }, (_, i) => ({ input: `x${i % 3}`, output: `${i}` }));
    const judged = (loss: number) => examples.map(({ output }) => ({ wanted: output, given: output, loss }));
    const texts = { type: "generation", metric: "loss", examples } as const;
    const found = compare(texts, judged(1), judged(2));
    expect(found).toEqual({
      validation: { new: -1, active: -2, p_value: 0.25 },
      better: false,
      few: { examples: 3, least: 6 },
    });
    const apart = { ...texts, examples: examples.map((each, i) => ({ ...each, input: `y${i}` })) };
    expect(compare(apart, judged(1), judged(2)).better).toBe(true);
  });
  test.each([
    [1, 5, 6],
    [1, 6, null],
    [4, 7, 8],
    [4, 8, null],
  ])(
    "of %i choices on %i examples that all differ alike: fewer than %j prove nothing",
    (choices, count, least) => {
      const examples = Array.from({ length: count }, (_, i) => ({ input: `${i}`, label: "x" }));
      const row = (given: string) => examples.map(() => ({ wanted: "x", given, loss: null }));
      const comparing = { type: "classification", metric: "accuracy", examples, choices } as const;
      const { better, few } = compare(comparing, row("x"), row("y"));
      expect(few).toEqual(least && { examples: count, least });
      expect(better).toBe(few === null);
    },
  );
  test("a mean that one input's many texts make is no better prompt, where the other inputs are worse", () => {
    const many = Array.from({ length: 40 }, (_, index) => ({ input: "many", output: `text ${index}` }));
    const others = Array.from({ length: 20 }, (_, index) => ({ input: `other ${index}`, output: "text" }));
    const judged = (ofMany: number, ofOthers: number): Judged[] =>
      [...many, ...others].map(({ output }) => ({
        wanted: output,
        given: "",
        loss: output === "text" ? ofOthers : ofMany,
      }));
    const comparing = {
      type: "generation" as const,
      metric: "loss" as const,
      examples: [...many, ...others],
    };
    const { validation, better } = compare(comparing, judged(1, 1.5), judged(2, 1));
    expect(validation.new).toBeGreaterThan(validation.active!);
    expect(validation.p_value).toBeLessThan(0.05);
    expect(better).toBe(false);
    expect(compare(comparing, judged(1, 0.5), judged(2, 1)).better).toBe(true);
  });

  test("every resample has as many examples as there are, all of them possible", () => {
    const seen = new Set<number>();
    pairedBootstrap(
      5,
      drawn => {
        expect(drawn).toHaveLength(5);
        for (const index of drawn) seen.add(index);
        return 0;
      },
      { resamples: 50 },
    );
    expect([...seen].sort()).toEqual([0, 1, 2, 3, 4]);
  });
});

describe("two prompts on the same examples", () => {
  const report = (name: string) => ({ name, prompt: 1 }) as never;
  test("labels: the second one's gain, by McNemar", () => {
    const better = judged.map(each => ({ ...each, given: each.wanted }));
    const [found] = compareLabels([report("1"), report("2")], [judged, better]);
    const wrong = judged.filter(({ wanted, given }) => wanted !== given).length;
    expect(found).toMatchObject({ first: "1", second: "2", metric: "accuracy", test: "mcnemar" });
    expect(found!.difference.value).toBeCloseTo(wrong / judged.length, 12);
    expect(found!.difference.low).toBeGreaterThan(0);
    expect(found!.p_value).toBe(mcnemar(judged, better));
  });

  test("texts: the same ones do not differ, better ones do", () => {
    const wanted = ["the cat sat on the mat", "a dog ran in the park today", "two birds sing at dawn here"];
    const cases = Array.from({ length: 30 }, (_, i) => ({ input: `${i}`, wanted: [wanted[i % 3]!] }));
    const written = (change: (text: string) => string, logprob: number) =>
      cases.map(each => ({
        ended: true,
        given: change(each.wanted[0]!),
        text: change(each.wanted[0]!),
        targets: [{ text: each.wanted[0]!, logprob, tokens: 4 }],
      }));
    const [right, cutShort] = [written(text => text, -2), written(text => text.slice(0, 14), -6)];
    const same = compareTexts([report("1"), report("2")], [right, right], cases);
    expect(same.map(({ p_value }) => p_value)).toEqual([1, 1]);
    const [score, loss] = compareTexts([report("1"), report("2")], [cutShort, right], cases);
    expect(score).toMatchObject({ metric: "bleu", test: "bootstrap" });
    expect(score!.p_value).toBeLessThan(0.01);
    expect(score!.difference.value).toBeGreaterThan(20);
    expect(loss!.difference).toEqual({ value: -1, low: -1, high: -1 });
    const { bleu: best, exact_match, perplexity, rouge_l } = generatorReport(right, cases);
    expect([best, exact_match.value, rouge_l.value]).toEqual([expect.closeTo(100, 8), 1, 1]);
    expect(perplexity).toBeCloseTo(Math.exp(0.5), 12);
  });
});

describe("an ensemble's weights", () => {
  // Members whose probabilities are drawn: the first knows most, the last one is the first once more.
  const random = (seed: number) => {
    let state = seed;
    return () => {
      state = (state * 48271) % 2147483647;
      return state / 2147483647;
    };
  };
  const draw = random(11);
  const logs = (sure: number, wanted: string) => {
    const right = 0.5 + sure * (draw() - 0.3);
    const p = Math.min(0.99, Math.max(0.01, right));
    return new Map([
      ["a", Math.log(wanted === "a" ? p : 1 - p)],
      ["b", Math.log(wanted === "b" ? p : 1 - p)],
    ]);
  };
  const answers: Labelled[] = Array.from({ length: 300 }, (_, i) => {
    const wanted = i % 2 ? "a" : "b";
    return {
      wanted,
      given: wanted,
      loss: 0,
      scores: new Map(),
      members: [logs(0.8, wanted), logs(0.2, wanted), logs(0.5, wanted)],
    };
  });
  const lossOf = (weights: readonly number[]) =>
    -answers.reduce(
      (sum, { members, wanted }) =>
        sum + Math.log(members.reduce((p, member, i) => p + weights[i]! * Math.exp(member.get(wanted)!), 0)),
      0,
    );

  test("make what was wanted likelier than any others on a grid", () => {
    const weights = fitWeights(answers);
    expect(weights.reduce((a, b) => a + b)).toBeCloseTo(1, 10);
    const best = lossOf(weights);
    for (let i = 0; i <= 20; i++)
      for (let j = 0; i + j <= 20; j++)
        expect(lossOf([i / 20, j / 20, (20 - i - j) / 20])).toBeGreaterThan(best - 1e-3);
    expect(weights[0]).toBeGreaterThan(weights[1]!);
  });

  test("answers that too few members give are unsure, as they are when served", () => {
    const active = { ensemble: [1, 2, 3], agreement_below: 1 };
    const voted = revoted(answers, "mean", active);
    const { unsure, agreement } = classifierReport(voted, active, ["a", "b"], {});
    const split = voted.filter(each => agreed(each) < 1);
    expect(unsure).toMatchObject({
      agreement_below: 1,
      share: expect.closeTo(split.length / voted.length, 12),
    });
    expect(split.length).toBeGreaterThan(0);
    expect(agreement).toBeLessThan(1);
  });

  test("a majority's loss is that of the members' mean: a label may have no vote at all", () => {
    const voted = revoted(answers, "majority");
    expect(voted.some(({ scores, wanted }) => scores.get(wanted) === 0)).toBe(true);
    expect(voted.map(({ loss }) => loss)).toEqual(revoted(answers, "mean").map(({ loss }) => loss));
    const { calibration } = classifierReport(voted, { ensemble: [1, 2, 3], vote: "majority" }, ["a", "b"], {
      calibrate: true,
    });
    expect(Number.isFinite(calibration!.after.log_loss)).toBe(true);
    expect(calibration!.temperature).toBeGreaterThan(0.1);
  });

  test("both halves of what is fitted have every label, in whatever order they came", () => {
    const sorted = ["a", "b"].flatMap(label => answers.filter(({ wanted }) => wanted === label).slice(0, 20));
    const alternating = sorted.slice(0, 20).flatMap((each, at) => [each, sorted[20 + at]!]);
    for (const examples of [sorted, alternating]) {
      const halves: string[][] = [];
      const fitTo = (half: readonly Labelled[]) => void halves.push(half.map(({ wanted }) => wanted).sort());
      expect(crossFitted(examples, fitTo, () => ({}))).toHaveLength(40);
      const half = [...Array(10).fill("a"), ...Array(10).fill("b")];
      expect(halves).toEqual([half, half]);
    }
  });

  test("one input's examples are all in one half, whatever labels they have", () => {
    const repeated = answers.slice(0, 60).map((each, at) => ({ ...each, input: `x${at % 20}` }));
    const halves: Set<string>[] = [];
    const fitTo = (half: typeof repeated) => void halves.push(new Set(half.map(({ input }) => input)));
    crossFitted(
      repeated,
      half => fitTo(half as typeof repeated),
      () => ({}),
    );
    expect(halves.map(({ size }) => size)).toEqual([10, 10]);
    expect([...halves[0]!].filter(input => halves[1]!.has(input))).toEqual([]);
  });

  test("votes give each example its answer anew", () => {
    for (const vote of ["mean", "majority", "weighted"] as const) {
      const voted = revoted(answers, vote);
      expect(voted).toHaveLength(answers.length);
      for (const { scores, given, members } of voted.slice(0, 20)) {
        expect([...scores.values()].reduce((a, b) => a + b)).toBeCloseTo(1, 10);
        if (vote === "mean")
          expect(scores.get("a")).toBeCloseTo(
            members.reduce((p, each) => p + Math.exp(each.get("a")!) / 3, 0),
            10,
          );
        if (vote === "majority") {
          const forIt = members.filter(each => each.get(given)! > Math.log(0.5)).length;
          expect(forIt).toBeGreaterThanOrEqual(2);
          expect(agreed(voted.find(each => each.members === members)!)).toBeCloseTo(forIt / 3, 10);
        }
      }
    }
  });
});

describe("an evaluation", () => {
  const template = (name: string) => `${name}: {{ input }}`;
  /** Answers "a", where the prompt's name and the input don't say otherwise. */
  const bench = (answer: (prompt: string, input: string) => string) =>
    ({
      shelf: new Shelf(),
      core: {
        inspect: (content: { template: string }) => ({ digest: content.template, length: 1 }),
        forget: () => {},
        checkLabels: () => [[[1]], [[2]]],
        infer: async ({ prompt, fields }: { prompt: string; fields: string }) => {
          const given = answer(prompt, fields);
          return {
            scores: ["a", "b"].map(label => ({ label, logprob: Math.log(label === given ? 0.9 : 0.1) })),
          };
        },
      },
    }) as never;
  const job = (examples: readonly Example[]): EvaluateJob => ({
    task: { id: "t", type: "classification", labels: ["a", "b"] },
    contestants: ["1", "2"].map(name => ({
      name,
      prompt: Number(name),
      prompts: [{ template: template(name), parameters: null }],
      active: {},
    })),
    examples: writeExamples({ examples: [...examples], lines: examples.map((_, i) => i + 1) }),
    settings: {},
  });
  const quiet = { pause: async () => {}, progress: () => {}, log: () => {} };
  const examples = Array.from({ length: 12 }, (_, i) => ({ input: `x${i}`, label: "a" }));
  // The first prompt is wrong on four inputs, the second is right on all.
  const core = bench((prompt, input) => (prompt === template("1") && /x[0-3]$/.test(input) ? "b" : "a"));

  test("that repeats its examples proves no more by it, and says so", async () => {
    const log: string[] = [];
    const hooks = { ...quiet, log: (text: string) => void log.push(text) };
    const [once] = (await evaluate(core, job(examples), hooks)).comparisons;
    expect(once!.p_value).toBe(0.125);
    expect(log).toHaveLength(2);
    const report = await evaluate(core, job([...examples, ...examples]), hooks);
    expect(report.comparisons).toEqual([once]);
    expect(report.examples).toBe(24);
    expect(log).toContainEqual(
      "examples: 12 of them (lines 13, 14, 15, 16, 17 and 7 more) repeat an earlier one; in comparisons an example counts once",
    );
  });

  test("tells how many answers it has of those that it asks for", async () => {
    const told: TrainProgress[] = [];
    await evaluate(core, job(examples), { ...quiet, progress: each => void told.push(each) });
    expect(told.map(({ step }) => step)).toEqual(Array.from({ length: 24 }, (_, i) => i + 1));
    expect(new Set(told.map(({ steps }) => steps))).toEqual(new Set([24]));
    expect(told.at(-1)!.eta_seconds).toBe(0);
  });

  test("whose example is too long names its line, and what can be done about it", async () => {
    const long = bench((_, input) => {
      if (input !== "x5") return "a";
      const detail = 'Shorten it, or send "truncate": "start" or "end".';
      throw new ForewordError("input_too_long", detail, { tokens: 90, limit: 80, over: 10 });
    });
    await expect(evaluate(long, job(examples), quiet)).rejects.toMatchObject({
      code: "input_too_long",
      message:
        "examples: line 6, prompt 1: The input has 90 tokens or more, and at most 80 fit. Shorten it, or leave it out.",
    });
  });

  test("goes on without a contender that can't answer an example, and says why", async () => {
    const one = bench((prompt, input) => {
      if (prompt !== template("1") || input !== "x5") return "a";
      throw new ForewordError("input_too_long", "It is too long.", {});
    });
    const log: string[] = [];
    const report = await evaluate(one, job(examples), { ...quiet, log: text => void log.push(text) });
    expect(report.prompts.map(({ name }) => name)).toEqual(["2"]);
    expect(report.comparisons).toEqual([]);
    const reason = "examples: line 6, prompt 1: It is too long.";
    expect(report.left_out).toEqual([{ name: "1", prompt: 1, reason }]);
    expect(log).toContain(`1 is left out: ${reason}`);
    // What follows is compared with those that are left.
    const three = job(examples);
    three.contestants.push({ ...three.contestants[1]!, name: "3", prompt: 3 });
    const compared = (await evaluate(one, three, quiet)).comparisons;
    expect(compared).toMatchObject([{ first: "2", second: "3", difference: { value: 0 } }]);
    // What is no problem of the caller's is none of the contender's.
    const broken = bench(() => {
      throw new TypeError("ours");
    });
    await expect(evaluate(broken, job(examples), quiet)).rejects.toThrow(TypeError);
    const lost = bench(() => {
      throw new ForewordError("internal", "The engine lost it. Send it again.");
    });
    await expect(evaluate(lost, job(examples), quiet)).rejects.toMatchObject({ code: "internal" });
  });

  test("looks before it judges whether inputs fill each contender's fields", async () => {
    const asked: string[] = [];
    const heard = bench(prompt => {
      asked.push(prompt);
      return "a";
    });
    const two = job([...examples, { input: { input: "x", more: "y" }, label: "a" }]);
    const other = { template: "{{ input }} {{ more }}", parameters: null };
    await expect(evaluate(heard, two, quiet)).rejects.toMatchObject({
      code: "bad_dataset",
      message: expect.stringMatching(/^examples: line 13: prompt 1: .* no field "more"/),
    });
    expect(asked).toEqual([]);
    const mixed = job(examples);
    mixed.contestants[1]!.prompts = [other];
    const told: TrainProgress[] = [];
    const report = await evaluate(heard, mixed, { ...quiet, progress: each => void told.push(each) });
    expect(report.left_out).toEqual([
      { name: "2", prompt: 2, reason: expect.stringMatching(/^examples: line 1: prompt 2: .*2 fields/) },
    ]);
    expect(asked).toEqual(examples.map(() => template("1")));
    expect(told.at(-1)).toMatchObject({ step: 12, steps: 12 });
  });
});

describe("a prompt as F16", () => {
  const texts = (...losses: number[]) => losses.map(loss => ({ wanted: "x", given: "", loss }));
  test.each<[string, number[], RegExp | null]>([
    ["costs texts nothing", [1, 2, 3], null],
    ["costs them less than can be told", [1.02, 2, 3.005], null],
    ["makes them likelier", [0.5, 2, 3], null],
    ["costs them something", [1, 2.04, 3], /loss would be 0\.0133 higher$/],
    ["answers with no numbers", [1, Number.NaN, 3], /higher$/],
  ])("%s", (_, losses, why) => {
    const lost = lostAsHalf({ type: "generation" }, texts(1, 2, 3), texts(...losses));
    if (why) expect(lost).toMatch(why);
    else expect(lost).toBeNull();
  });

  test("changes no label", () => {
    const labels = (...given: string[]) => given.map(each => ({ wanted: "a", given: each, loss: 1 }));
    const lost = (...given: string[]) =>
      lostAsHalf({ type: "classification" }, labels("a", "b", "b"), labels(...given));
    expect(lost("a", "b", "b")).toBeNull();
    expect(lost("a", "a", "b")).toMatch(/answer 1 of 3 otherwise$/);
  });
});

test("an input's references come together, a label's examples stay apart", () => {
  const texts = {
    examples: [
      { input: "a", output: "x" },
      { input: "b", output: "y" },
      { input: "a ", output: "z" },
    ],
    lines: [1, 4, 5],
  };
  expect(casesOf(texts, "generation")).toEqual([
    { input: "a", wanted: ["x", "z"], line: 1 },
    { input: "b", wanted: ["y"], line: 4 },
  ]);
  const labels = {
    examples: [
      { input: "a", label: "x" },
      { input: "a", label: "y" },
    ],
    lines: [2, 3],
  };
  expect(casesOf(labels, "classification")).toHaveLength(2);
});

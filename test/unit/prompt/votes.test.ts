import { describe, expect, test } from "vitest";
import { agreement, best, calibrate, ranked, vote } from "../../../src/prompt/votes.ts";

const logs = (scores: Record<string, number>) =>
  new Map(Object.entries(scores).map(([label, score]) => [label, Math.log(score)]));
const sum = (scores: ReadonlyMap<string, number>) => [...scores.values()].reduce((all, one) => all + one, 0);

describe("calibration", () => {
  test("bias and temperature, as written out by hand", () => {
    const scores = calibrate(logs({ a: 0.8, b: 0.2 }), { temperature: 2, bias: { b: Math.log(4) } });
    expect(scores.get("a")).toBeCloseTo(0.5, 12);
    expect(sum(scores)).toBeCloseTo(1, 12);
    const cooler = calibrate(logs({ a: 0.8, b: 0.2 }), { temperature: 0.5 });
    expect(cooler.get("a")).toBeCloseTo(0.64 / 0.68, 12);
  });

  test("labels that are called like what every object has", () => {
    const scores = calibrate(logs({ constructor: 0.7, toString: 0.3 }), { bias: { other: 5 } });
    expect(scores.get("constructor")).toBeCloseTo(0.7, 12);
    expect(Object.keys(ranked(new Map([["__proto__", 1]]), 1))).toEqual(["__proto__"]);
  });

  test("log P far below what exp can tell apart from 0", () => {
    const scores = calibrate(
      new Map([
        ["a", -2000],
        ["b", -2001],
      ]),
      {},
    );
    expect(scores.get("a")).toBeCloseTo(1 / (1 + Math.exp(-1)), 12);
  });

  test.each([1e-308, Number.MIN_VALUE])("a temperature of %d leaves the best label alone", temperature => {
    expect(Object.fromEntries(calibrate(logs({ a: 0.06, b: 0.04 }), { temperature }))).toEqual({
      a: 1,
      b: 0,
    });
    const tied = calibrate(logs({ a: 0.05, b: 0.05 }), { temperature });
    expect(Object.fromEntries(tied)).toEqual({ a: 0.5, b: 0.5 });
  });
});

describe("votes", () => {
  const members = [
    new Map([
      ["a", 0.6],
      ["b", 0.4],
    ]),
    new Map([
      ["a", 0.55],
      ["b", 0.45],
    ]),
    new Map([
      ["a", 0.05],
      ["b", 0.95],
    ]),
  ];

  test("the mean, the weighted mean, the majority", () => {
    expect(vote(members, "mean", [1, 1, 1]).get("b")).toBeCloseTo(0.6, 12);
    expect(vote(members, "weighted", [3, 0, 1]).get("a")).toBeCloseTo((3 * 0.6 + 0.05) / 4, 12);
    const majority = vote(members, "majority", [1, 1, 1]);
    expect(best(majority)).toBe("a");
    expect(majority.get("a")).toBeCloseTo(2 / 3, 12);
    expect(agreement(members, "a")).toBeCloseTo(2 / 3, 12);
  });

  test("a tie goes to the higher mean", () => {
    expect(best(vote(members.slice(1), "majority", [1, 1]))).toBe("b");
  });
});

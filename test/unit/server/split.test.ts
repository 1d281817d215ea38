/** Who gets which version of a split: the shares, and that nobody moves who need not. */
import { describe, expect, test } from "vitest";
import { pick } from "../../../src/server/routing.ts";

const keys = Array.from({ length: 4000 }, (_, index) => `user-${index}`);
const parts = (...weights: number[]) => weights.map((weight, index) => ({ prompt: index + 1, weight }));
const assigned = (weights: number[], task = "mood") => keys.map(key => pick(task, parts(...weights), key));
const share = (chosen: readonly number[], version: number) =>
  chosen.filter(each => each === version).length / chosen.length;
/** Of keys with each move, as "from>to". */
function moves(before: readonly number[], after: readonly number[]): Record<string, number> {
  const found: Record<string, number> = {};
  for (const [index, from] of before.entries()) {
    const to = after[index]!;
    if (from !== to) found[`${from}>${to}`] = (found[`${from}>${to}`] ?? 0) + 1 / before.length;
  }
  return found;
}
/** Five standard deviations of a share of 4,000. */
const near = 0.04;

describe("a split by weight", () => {
  test("a key comes to the same version on every machine", () => {
    // Computed by hand in another language (hashlib), from the rule in pick's comment.
    const mood = [1, 1, 2, 1, 1, 2, 3, 1, 1, 1, 2, 1, 1, 1, 1, 3, 1, 1, 1, 3];
    const spam = [1, 3, 1, 1, 1, 1, 1, 1, 1, 3, 2, 3, 3, 1, 1, 3, 1, 1, 3, 1];
    const first = keys.slice(0, 20);
    expect(first.map(key => pick("mood", parts(9, 1, 5), key))).toEqual(mood);
    expect(first.map(key => pick("spam", parts(9, 1, 5), key))).toEqual(spam);
    expect(first.map(key => pick("mood", parts(9, 1, 5).reverse(), key))).toEqual(mood);
  });

  test("shares are the weights', with keys and without; a weight of 0 gets nothing", () => {
    const drawn = keys.map(() => pick("mood", parts(6, 3, 1, 0), undefined));
    for (const chosen of [assigned([6, 3, 1, 0]), drawn])
      for (const [index, expected] of [0.6, 0.3, 0.1, 0].entries())
        expect(Math.abs(share(chosen, index + 1) - expected)).toBeLessThan(expected === 0 ? 1e-9 : near);
  });

  test.each<[string, number[], number[], Record<string, number>]>([
    ["more for one of two", [9, 1], [1, 1], { "1>2": 0.4 }],
    ["more for one of three", [1, 1, 8], [2, 1, 8], { "2>1": 0.1 - 1 / 11, "3>1": 0.8 - 8 / 11 }],
    ["less for one of three", [2, 1, 8], [1, 1, 8], { "1>2": 0.1 - 1 / 11, "1>3": 0.8 - 8 / 11 }],
    ["one taken out", [1, 1, 2], [1, 0, 2], { "2>1": 0.25 / 3, "2>3": 0.5 / 3 }],
    ["all weights doubled", [1, 2, 3], [2, 4, 6], {}],
  ])("only the share moves that must: %s", (_, before, after, expected) => {
    const found = moves(assigned(before), assigned(after));
    expect(Object.keys(found).sort()).toEqual(Object.keys(expected).sort());
    for (const [move, of] of Object.entries(expected)) expect(Math.abs(found[move]! - of)).toBeLessThan(near);
  });

  test("tasks are split apart: what a key gets in one says nothing of another", () => {
    const [one, other] = [assigned([1, 1]), assigned([1, 1], "spam")];
    const same = one.filter((version, index) => version === other[index]).length / keys.length;
    expect(Math.abs(same - 0.5)).toBeLessThan(near);
  });
});

import { describe, expect, test } from "vitest";
import { drawCurve } from "../../../src/cli/curve.ts";
import { duration } from "../../../src/cli/progress.ts";

const falling = (count: number) =>
  Array.from({ length: count }, (_, i) => ({ step: (i + 1) * 5, loss: 2 - (1.5 * i) / (count - 1) }));

describe("the loss curve", () => {
  test.each([2, 7, 200])(
    "of %i points: as wide as the terminal, labelled, falling from left to right",
    count => {
      const lines = drawCurve(falling(count), 60).trimEnd().split("\n");
      expect(lines.every(line => line.length <= 60)).toBe(true);
      expect(lines.at(-1)).toMatch(new RegExp(`^ +step 1 +${count * 5}$`));
      expect(lines[0]).toMatch(/^ +(2\.000|1\.9\d\d) [┤┼]/);
      expect(lines.at(-2)).toMatch(/^ +0\.5\d\d [┤┼]/);
      const columnOf = (line: string) => line.search(/[─╮╰╭╯│](?!.*[┤┼])/);
      expect(columnOf(lines[0]!)).toBeLessThan(columnOf(lines.at(-2)!));
    },
  );

  test("there is none where nothing falls or rises", () => {
    expect(drawCurve([{ step: 1, loss: 1 }], 80)).toBe("");
    const flat = [1, 2, 3].map(step => ({ step, loss: 0.7 }));
    expect(drawCurve(flat, 80)).toBe("");
  });
});

test.each([
  [0, "0:00"],
  [59.6, "1:00"],
  [245, "4:05"],
  [3750, "1:02:30"],
])("%f seconds are %s", (seconds, text) => expect(duration(seconds)).toBe(text));

/** Patterns that are long, and refused before anything could take long over them. */
import { expect, test } from "vitest";
import { canPromise, patternLength } from "../../../src/engine/json-pattern.ts";
import type { Schema } from "../../../src/engine/json-pointer.ts";
import { promised } from "../../../src/engine/json-schema.ts";

const refused: [what: string, pattern: string, says: RegExp][] = [
  ["a class of escapes without an end", `[${"\\a".repeat(5000)}`, /no regular expression/],
  ["such a class that would be one", `[${"\\.".repeat(5000)}`, /no regular expression/],
  ["many such classes", "[\\.".repeat(5000), /no regular expression/],
  ["groups without an end", "(".repeat(5000), /no regular expression/],
  ["counts of nothing", "{1,".repeat(5000), /no regular expression/],
  ["escapes without an end", "\\".repeat(5001), /no regular expression/],
  ["letters", "a".repeat(5000), /more than 2000 characters/],
  ["classes", `${"[\\.a-z]".repeat(5000)}!`, /more than 2000 characters/],
  ["letters, and what can't be promised", `${"a".repeat(1500)}.`, /has the pattern/],
  ["classes, and what can't be promised", `^(${"[\\.a-z*]+".repeat(1500)}.)$`, /has the pattern/],
  ["a class that covers quotes", `[${"\\.".repeat(1500)} -~]`, /has the pattern/],
];

test.each(refused)("thousands of characters are refused promptly: %s", (_, pattern, says) => {
  expect(() => promised({ type: "string", pattern } as Schema)).toThrow(says);
});

test("a class of escapes without an end is read promptly too", () => {
  const pattern = `[${"\\a".repeat(5000)}`;
  expect(canPromise(pattern)).toBe(false);
  expect(patternLength(pattern)).toBeGreaterThan(2000);
});

test("a class is one character, whatever it escapes", () => {
  expect(patternLength("^[\\]\\[]{3}[a\\\\]b$")).toBe(5);
  expect(canPromise("^[\\.a-z]{3}$")).toBe(true);
});

/** Where BOS stands in the template of an adapter that is read. */
import { expect, test } from "vitest";
import { peftTemplate } from "../../../src/prompt/peft/template.ts";

test.each<[string, string | undefined, string | undefined, number | null, string]>([
  ["virtual tokens of others", undefined, undefined, 4, "{{ soft(4) }}<s>{{ input }}"],
  [
    "a caller's words behind them",
    "Review: {{ input }}",
    undefined,
    4,
    "{{ soft(4) }}<s>Review: {{ input }}",
  ],
  ["our own virtual tokens", undefined, "{{ soft(4) }}<s>{{ input }}", 4, "{{ soft(4) }}<s>{{ input }}"],
  [
    "a caller's words behind our own",
    "Review: {{ input }}",
    "{{ soft(4) }}<s>{{ input }}",
    4,
    "{{ soft(4) }}<s>Review: {{ input }}",
  ],
  ["a prefix of others", undefined, undefined, null, "<s>{{ input }}"],
  ["our own prefix, in which it is held", "Review: {{ input }}", " {{ input }}", null, "Review: {{ input }}"],
])("%s", (_, asked, written, slot, expected) => {
  expect(peftTemplate({ asked, written, slot, bos: "<s>" })).toBe(expected);
});

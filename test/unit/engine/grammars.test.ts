/** XGrammar may fail in the middle of an answer, when its memory is full: that ends the one answer. */
import { expect, test } from "vitest";
import { JsonConstraint } from "../../../src/engine/grammars.ts";

const tokens = {
  words: ["a", "b"],
  partial: new Map(),
  refusedAfter: () => new Set<number>(),
  closing: [0],
  closers: 0,
  blanks: 0,
} as never;

test("a failure is told when the next token is chosen, and once it is disposed of nothing is left over", async () => {
  let calls = 0;
  let broken = 0;
  const matcher = {
    acceptToken: () => true,
    isTerminated: () => false,
    getNextTokenBitmask: async () => {
      if (calls++ > 0) throw new RangeError("out of memory");
      return Int32Array.of(0b01);
    },
    dispose: () => {
      throw new RangeError("out of memory");
    },
  } as never;
  const constraint = new JsonConstraint(matcher, tokens, () => broken++);
  await constraint.refresh();
  const logits = Float32Array.of(1, 2);
  constraint.mask(logits);
  expect([...logits]).toEqual([1, -Infinity]);
  constraint.accept(0);
  await constraint.settled().catch(() => {});
  expect(() => constraint.mask(logits)).toThrow("out of memory");
  expect(broken).toBe(1);
  constraint.dispose();
  await new Promise(setImmediate);
  expect(broken).toBe(2);
});

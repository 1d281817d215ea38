/** A text of JSON as the engine sees it, with a thread that is played by hand. */
import { expect, test } from "vitest";
import type { ToGrammar } from "../../../src/engine/grammar-protocol.ts";
import { JsonConstraint } from "../../../src/engine/json-constraint.ts";

function opened() {
  const sent: ToGrammar[] = [];
  let gone = 0;
  const constraint = new JsonConstraint(
    7,
    message => sent.push(message),
    () => gone++,
  );
  return { constraint, sent, gone: () => gone };
}

test("a mask leaves what its bits say, in every word of it", async () => {
  const { constraint, sent } = opened();
  expect(sent).toEqual([{ type: "open", row: 7 }]);
  expect(() => constraint.mask(new Float32Array(70))).toThrow("not there yet");
  constraint.hear({ type: "mask", row: 7, mask: Int32Array.of(-1, 0, 0b101) });
  await constraint.settled();
  const logits = Float32Array.from({ length: 70 }, (_, token) => token);
  constraint.mask(logits);
  const left = [...logits].filter(logit => logit !== -Infinity);
  expect(left).toEqual([...Array(32).keys(), 64, 66]);
});

test("a mask of before is not taken for the next token's", async () => {
  const { constraint } = opened();
  constraint.hear({ type: "mask", row: 7, mask: Int32Array.of(1) });
  constraint.accept(0);
  expect(() => constraint.mask(new Float32Array(32))).toThrow("not there yet");
  constraint.hear({ type: "mask", row: 7, mask: Int32Array.of(2) });
  const logits = new Float32Array(32);
  constraint.mask(logits);
  expect([logits[0], logits[1]]).toEqual([-Infinity, 0]);
});

test("a failure is told when the next token is chosen, and nothing more is asked of the thread", async () => {
  const { constraint, sent, gone } = opened();
  constraint.hear({ type: "mask", row: 7, mask: Int32Array.of(1) });
  constraint.accept(0);
  constraint.fail(new RangeError("out of memory"));
  await constraint.settled();
  expect(() => constraint.mask(new Float32Array(32))).toThrow("out of memory");
  await expect(constraint.close()).rejects.toThrow("out of memory");
  constraint.dispose();
  constraint.dispose();
  expect(gone()).toBe(1);
  expect(sent.map(({ type }) => type)).toEqual(["open", "accept"]);
});

test("a failure while the text is brought to its end is told there", async () => {
  const { constraint } = opened();
  constraint.hear({ type: "mask", row: 7, mask: Int32Array.of(1) });
  const closing = constraint.close();
  constraint.fail(new Error("gone"));
  await expect(closing).rejects.toThrow("gone");
});

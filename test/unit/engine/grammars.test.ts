/** Texts of JSON as the engine sees them, and who has which thread, with threads that are played. */
import { EventEmitter } from "node:events";
import { afterEach, beforeEach, expect, test, vi } from "vitest";
import type { Tokenizer } from "../../../src/backbone/tokenizer.ts";
import type { FromGrammar, ToGrammar } from "../../../src/engine/grammar-protocol.ts";
import { Grammars } from "../../../src/engine/grammars.ts";
import { JsonConstraint } from "../../../src/engine/json-constraint.ts";
import * as schemas from "../../../src/engine/json-schema.ts";

/** Answers whatever it is asked at once. */
class Played extends EventEmitter {
  readonly compiled: string[] = [];
  ended = false;
  ref() {}
  unref() {}
  postMessage(message: ToGrammar) {
    const answers: Partial<Record<ToGrammar["type"], (row: number) => FromGrammar>> = {
      open: row => ({ type: "mask", row, mask: Int32Array.of(1) }),
      dispose: row => ({ type: "disposed", row }),
    };
    if (message.type === "compile") this.compiled.push(message.schema);
    const answer: FromGrammar =
      message.type === "compile" ? { type: "compiled" } : answers[message.type]!(message.row);
    queueMicrotask(() => this.emit("message", answer));
  }
  async terminate() {
    this.ended = true;
    this.emit("exit", 1);
  }
}

let threads: Played[];
vi.mock(import("../../../src/engine/thread.ts"), () => ({
  startThread: () => {
    const thread = new Played();
    threads.push(thread);
    return thread as never;
  },
}));
vi.mock(import("../../../src/engine/json-schema.ts"), { spy: true });
beforeEach(() => {
  threads = [];
  vi.useFakeTimers({ toFake: ["setTimeout", "clearTimeout"] });
});
afterEach(() => {
  vi.useRealTimers();
  vi.clearAllMocks();
});

const played = () => {
  const tokenizer = { specialIds: [], eosIds: [0], vocabularyType: "byte_level" };
  const vocabulary = { vocabulary: () => ["", "1"], decode: () => "1" };
  return new Grammars({ ...tokenizer, ...vocabulary } as unknown as Tokenizer, 2);
};
const wait = (ms: number) => vi.advanceTimersByTimeAsync(ms);

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

test("a refused end is told in words", async () => {
  const { constraint } = opened();
  const closing = constraint.close();
  constraint.hear({ type: "closing", row: 7, tokens: null });
  await expect(closing).rejects.toMatchObject({
    code: "validation",
    message: expect.stringMatching(/^json_schema: .* could not be brought to an end. Raise max_tokens/),
  });
});

test("a schema that each input of a request brings again is read once", async () => {
  const grammars = played();
  const schema = { type: "object", properties: { a: { type: "integer" } }, required: ["a"] };
  const rows = await Promise.all(Array.from({ length: 5 }, () => grammars.json(structuredClone(schema))));
  expect(schemas.promised).toHaveBeenCalledTimes(1);
  expect(grammars.compiles).toBe(1);
  for (const row of rows) row.dispose();
  for (const _ of [1, 2]) await expect(grammars.json({ type: "nonsense" })).rejects.toThrow(/no JSON schema/);
  expect(schemas.promised).toHaveBeenCalledTimes(3);
  await grammars.close();
});

test("a ninth schema has a thread after a while, though eight others always have rows", async () => {
  const grammars = played();
  const hot = Array.from({ length: 8 }, (_, each) => ({ const: each }));
  const rows: JsonConstraint[] = [];
  /** Of each schema the next row comes before the last one goes. */
  const round = async () => {
    const before = rows.splice(0);
    const next = hot.map(schema => grammars.json(schema).then(row => rows.push(row)));
    await wait(100);
    for (const row of before) row.dispose();
    await wait(100);
    return next;
  };
  await Promise.all(await round());
  let ninth: JsonConstraint | null = null;
  const asked = grammars.json({ const: "ninth" }).then(row => {
    ninth = row;
  });
  for (let each = 0; each < 9; each++) await round();
  expect(ninth).toBeNull();
  expect(threads.some(({ ended }) => ended)).toBe(false);
  // The one that gives up its thread takes no new rows there, and keeps those that it has.
  const last: Promise<unknown>[] = [];
  for (let each = 0; each < 3; each++) last.push(...(await round()));
  expect(ninth).not.toBeNull();
  expect(threads.map(({ ended }) => ended)).toEqual([true, ...Array(8).fill(false)]);
  expect(threads[8]!.compiled).toEqual(['{"enum":["ninth"]}']);
  // It is not the end of it: its next rows have a thread in their turn.
  await asked;
  ninth!.dispose();
  await Promise.all(last);
  expect(threads[8]!.compiled.at(-1)).toBe('{"enum":[0]}');
  for (const row of rows) row.dispose();
  await grammars.close();
});

test("a thread that was given up ends with its last row, though another of its rows failed before", async () => {
  const grammars = played();
  const opening = [0, 0, 1, 2, 3, 4, 5, 6, 7].map(each => grammars.json({ const: each }));
  await wait(0);
  const [failed, other, ...rest] = await Promise.all(opening);
  const ninth = grammars.json({ const: "ninth" });
  await wait(3000);
  threads[0]!.emit("message", { type: "failed", row: 0, why: "out of memory" } satisfies FromGrammar);
  failed!.dispose();
  expect(threads[0]!.ended).toBe(false);
  other!.mask(new Float32Array(2));
  other!.dispose();
  expect(threads[0]!.ended).toBe(true);
  for (const row of [await ninth, ...rest]) row.dispose();
  await grammars.close();
});

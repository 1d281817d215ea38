/** How long a grammar's thread may take, with a worker that is played by hand and a clock that is set. */
import { EventEmitter } from "node:events";
import { afterEach, beforeEach, expect, test, vi } from "vitest";
import type { FromGrammar, ToGrammar } from "../../../src/engine/grammar-protocol.ts";
import { GrammarThread } from "../../../src/engine/grammar-thread.ts";

class Played extends EventEmitter {
  readonly sent: ToGrammar[] = [];
  ref() {}
  unref() {}
  postMessage(message: ToGrammar) {
    this.sent.push(message);
  }
  async terminate() {
    this.emit("exit", 1);
  }
  says(message: FromGrammar) {
    this.emit("message", message);
  }
}

let worker: Played;
vi.mock(import("../../../src/engine/thread.ts"), () => ({ startThread: () => worker as never }));
beforeEach(() => {
  worker = new Played();
  vi.useFakeTimers({ toFake: ["setTimeout", "clearTimeout"] });
});
afterEach(() => vi.useRealTimers());

/** With what waits for the loop's next turn. */
const pass = async (seconds: number) => {
  await vi.advanceTimersByTimeAsync(seconds * 1000);
  await new Promise(resolve => setImmediate(resolve));
};
const mask = new Int32Array(1);

test("a schema has all its time in a thread whose last row was just disposed of", async () => {
  const thread = new GrammarThread({} as never, () => {});
  const opened = thread.open(() => {});
  worker.says({ type: "mask", row: 0, mask });
  (await opened).dispose();
  let end = "";
  const compiled = thread.compile("{}").then(
    () => {},
    error => {
      end = error.message;
    },
  );
  worker.says({ type: "disposed", row: 0 });
  await pass(119);
  expect(end).toBe("");
  await pass(2);
  await compiled;
  expect(end).toMatch(/takes longer than 120 s/);
  expect(worker.sent.map(({ type }) => type)).toEqual(["open", "dispose", "compile"]);
});

test("what follows a schema has the time of a mask again", async () => {
  const thread = new GrammarThread({} as never, () => {});
  const compiled = thread.compile("{}");
  await pass(100);
  worker.says({ type: "compiled" });
  await compiled;
  const opened = thread.open(() => {});
  worker.says({ type: "mask", row: 0, mask });
  const row = await opened;
  await pass(1000);
  row.accept(3);
  await pass(31);
  await expect(row.settled()).resolves.toBeUndefined();
  expect(() => row.mask(new Float32Array(4))).toThrow(/takes longer than 30 s/);
});

/** Schemas compile beside the engine: who waits for one, who does not, and what is left when a thread or the engine ends. */
import type { Worker } from "node:worker_threads";
import { afterAll, afterEach, beforeAll, expect, test } from "vitest";
import { type GenerateRequest, greedy } from "../../src/engine/engine.ts";
import { Grammars } from "../../src/engine/grammars.ts";
import { describeBackbone } from "../support/backbone.ts";
import { sharedCache } from "../support/compiled.ts";
import { openCore } from "../support/core.ts";

/** Compiles for a second or more. */
const slow = (length = 90) => ({ type: "string", maxLength: length });
const quick = { type: "object", properties: { a: { type: "integer" } }, required: ["a"] };

describeBackbone("grammars in threads", path => {
  let opened: Awaited<ReturnType<typeof openCore>>;
  let grammars: Grammars;
  const threads: Worker[] = [];
  const note = (worker: Worker) => threads.push(worker);
  beforeAll(async () => {
    opened = await openCore(path, sharedCache());
    process.on("worker", note);
  });
  afterEach(() => grammars?.close());
  afterAll(async () => {
    process.off("worker", note);
    await opened.close();
  });
  const fresh = () => {
    grammars = new Grammars(opened.tokenizer, opened.config.vocabSize);
    return grammars;
  };
  const generation = (more: Partial<GenerateRequest> = {}): GenerateRequest => ({
    kind: "generate",
    prompt: opened.prompt("JSON: {{ input }}"),
    fields: { input: "a name" },
    maxTokens: 4,
    ...greedy,
    ...more,
  });

  test("while a schema compiles others are answered, with schemas and without, and deadlines hold", async () => {
    const order: string[] = [];
    const noted = (name: string, answer: Promise<unknown>) =>
      answer.then(
        () => order.push(name),
        error => order.push(`${name}: ${error.code}`),
      );
    const impatient = { ...opened.far(), deadline: Date.now() + 50 };
    const waiting = [
      noted("slow", opened.infer(generation({ jsonSchema: slow() }))),
      noted("late", opened.core.infer(generation({ jsonSchema: slow() }), impatient)),
    ];
    const labels = ["x", "y"].map(label => ({ label, verbalizers: [` ${label}`] }));
    const { prompt, fields } = generation();
    await Promise.all([
      noted("text", opened.infer(generation())),
      noted("label", opened.infer({ kind: "classify", prompt, fields, labels, scores: "top" })),
      noted("quick", opened.infer(generation({ jsonSchema: quick }))),
    ]);
    await Promise.all(waiting);
    expect(order.at(-1)).toBe("slow");
    expect([...order].sort()).toEqual(["label", "late: deadline", "quick", "slow", "text"]);
  });

  test("a schema that many ask for compiles once, and is there for the next", async () => {
    const made = fresh();
    const three = await Promise.all([quick, quick, { ...quick }].map(schema => made.json(schema)));
    expect(new Set(three).size).toBe(3);
    for (const constraint of three) constraint.dispose();
    (await made.json(quick)).dispose();
    expect(made.compiles).toBe(1);
  });

  test("what nobody waits for any more when its turn comes is not compiled", async () => {
    const made = fresh();
    let wanted = true;
    const first = made.json(slow());
    const second = made.json(slow(91), () => wanted);
    wanted = false;
    await expect(second).rejects.toMatchObject({ code: "deadline" });
    (await first).dispose();
    expect(made.compiles).toBe(1);
  });

  test("rows keep their threads, and one more schema waits for the first that has none", async () => {
    const made = fresh();
    const schemas = Array.from({ length: 9 }, (_, each) => ({ const: each }));
    const before = threads.length;
    const rows = await Promise.all(schemas.slice(0, 8).map(schema => made.json(schema)));
    let there = false;
    const ninth = made.json(schemas[8]!).then(constraint => {
      there = true;
      return constraint;
    });
    await rows[0]!.close();
    expect(there).toBe(false);
    rows[3]!.dispose();
    const last = await ninth;
    expect(threads.length - before).toBe(8);
    const text = async (row: typeof last) =>
      opened.tokenizer.decode(await row.close(), { skipSpecial: true });
    expect(await text(last)).toBe("8");
    expect(await text(rows[4]!)).toBe("4");
    for (const row of [...rows, last]) row.dispose();
  });

  test("a thread that dies takes its rows with it, and no others; the next request compiles anew", async () => {
    const made = fresh();
    const other = await made.json({ type: "boolean" });
    const row = await made.json(quick);
    await threads.at(-1)!.terminate();
    const logits = new Float32Array(opened.config.vocabSize);
    expect(() => row.mask(logits)).toThrow(/thread of json_schema's grammar ended .* Send the request again/);
    row.dispose();
    other.mask(logits);
    other.dispose();
    const again = await made.json(quick);
    again.mask(logits);
    again.dispose();
    expect(made.compiles).toBe(3);
  });

  test("a thread that dies while it compiles says so, and the next request compiles anew", async () => {
    const made = fresh();
    const before = threads.length;
    const lost = made.json(slow());
    await expect.poll(() => threads.length, { interval: 1 }).toBe(before + 1);
    await threads.at(-1)!.terminate();
    await expect(lost).rejects.toMatchObject({ code: "internal" });
    (await made.json(quick)).dispose();
    expect(made.compiles).toBe(2);
  });

  test("an engine that closes while schemas compile and wait ends with all its threads", async () => {
    const made = fresh();
    const before = threads.length;
    const waiting = Promise.allSettled([made.json(slow()), made.json(slow(91)), made.json(slow())]);
    await expect.poll(() => threads.length, { interval: 1 }).toBe(before + 1);
    await made.close();
    for (const result of await waiting)
      expect(result).toMatchObject({ status: "rejected", reason: { code: "draining" } });
    await expect(made.json(quick)).rejects.toMatchObject({ code: "draining" });
    expect(threads.slice(before).map(({ threadId }) => threadId)).toEqual([-1]);
  });
});

/** How many examples a run lays out. */
import { expect, test } from "vitest";
import type { Example } from "../../../src/contract/dataset.ts";
import { layOutEnough } from "../../../src/training/enough.ts";
import { planOf, settingsOf } from "../../../src/training/plan.ts";
import { contextOf, layOut } from "../../../src/training/rows.ts";

const bytes = (text: string) => [...new TextEncoder().encode(text)];
const codec = { encode: bytes, encodeWithSpecials: bytes, bosId: null, bosText: null, eosIds: [0] };
const task = { id: "t", type: "classification" as const, labels: ["a", "b"], description: "" };

/** A tenth of them "b". */
const many = (count: number): Example[] =>
  Array.from({ length: count }, (_, i) => ({ input: `${i}`, label: i % 10 ? "a" : "b" }));

function laidOut(examples: readonly Example[], request: object = {}, seed = 1) {
  const job = {
    request: { init: "labels" as const, ...request },
    template: "{{ input }}",
    task,
    initial: null,
  };
  const plan = planOf(job, examples, codec, 256);
  const context = contextOf(plan, task, codec, 40);
  const asked: Example[][] = [];
  const lineOf = (example: Example) => examples.indexOf(example) + 1;
  const { rows, settings } = layOutEnough(
    examples,
    seed,
    some => {
      asked.push([...some]);
      return layOut(some, context, lineOf, "examples");
    },
    all => settingsOf(job as never, plan, all, "int8"),
  );
  return { rows, settings, chosen: asked.at(-1)! };
}

test("of far more examples than the steps read a sample by label, the same for the same seed", () => {
  const examples = many(60_000);
  const { rows, settings, chosen } = laidOut(examples);
  expect(settings.steps * settings.batchSize).toBeLessThan(25_000);
  expect(rows).toHaveLength(25_000);
  const rare = chosen.filter(each => "label" in each && each.label === "b").length;
  expect(Math.abs(rare - 2500)).toBeLessThanOrEqual(1);
  expect(laidOut(examples).chosen).toEqual(chosen);
  expect(laidOut(examples, {}, 2).chosen).not.toEqual(chosen);
});

test("as many as the steps read, where those are more; and all where they read all", () => {
  const examples = many(60_000);
  expect(laidOut(examples, { steps: 2000, batch_size: 20 }).rows).toHaveLength(40_000);
  expect(laidOut(examples, { steps: 4000, batch_size: 20 }).chosen).toEqual(examples);
});

test("no fewer of less", () => {
  const examples = many(25_000);
  const { rows, settings, chosen } = laidOut(examples, { steps: 3, batch_size: 4 });
  expect(chosen).toEqual(examples);
  expect([rows.length, settings.steps, settings.batchSize]).toEqual([25_000, 3, 4]);
});

test("what is too long is named where it stands", () => {
  const long = { input: "x".repeat(50), label: "a" };
  expect(() => laidOut([...many(5), long])).toThrow(/^examples: line 6: .*at most/);
});

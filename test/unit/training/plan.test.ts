/** What a plan takes from the prompt that training starts from. */
import { expect, test } from "vitest";
import { writePromptFile } from "../../../src/prompt/file.ts";
import type { TrainJob } from "../../../src/training/job.ts";
import { planOf, settingsOf } from "../../../src/training/plan.ts";

const bytes = (text: string) => [...new TextEncoder().encode(text)];
const codec = { encode: bytes, encodeWithSpecials: bytes, bosId: null, bosText: null };
const examples = [
  { input: "one", label: "a" },
  { input: "two", label: "b" },
];
const job = (initial: TrainJob["initial"], request: object = {}) => ({
  task: { id: "t", type: "classification" as const, labels: ["a", "b"], description: "" },
  request: { method: "soft" as const, init: { prompt: { task: "other", version: 1 } }, ...request },
  template: "Mine: {{ input }} so",
  initial,
});
const template = "The other one says this: {{ text }}!";

test("virtual tokens begin as the words of the hard prompt that is named, not as the task's own", () => {
  const { ids, template: planned } = planOf(job({ template, parameters: null }), examples, codec, 256);
  expect(ids).toEqual(bytes("The other one says this:"));
  expect(planned.source).toBe(`{{ soft(${ids.length}) }} {{ input }} so`);
  const short = planOf(job({ template, parameters: null }, { length: 5 }), examples, codec, 256);
  expect(short.ids).toEqual(bytes("this:"));
});

test("another prompt's virtual tokens say how many there are", () => {
  const soft = { dims: [7, 2] as const, data: new Float32Array(14) };
  const about = { kind: "soft", template: `{{ soft(7) }}${template}`, backbone: "f", recipe: null } as const;
  const parameters = writePromptFile({ ...about, soft });
  const plan = planOf(job({ template: about.template, parameters }), examples, codec, 256);
  expect(plan.softLengths).toEqual([7]);
  expect(plan.template.source).toBe("{{ soft(7) }} {{ input }} so");
});

test("many labels get more steps than few, up to 1.4 times as many", () => {
  const steps = (count: number) => {
    const labels = Array.from({ length: count }, (_, index) => `${index}`);
    const { task, ...rest } = job({ template, parameters: null });
    const plan = planOf({ ...rest, task }, examples, codec, 256);
    const rows = Array(9000).fill([{ length: 10 }]);
    return settingsOf({ ...rest, task: { ...task, labels } } as never, plan, rows, "int8").steps;
  };
  expect([2, 50, 60, 70, 150].map(steps)).toEqual([1000, 1000, 1200, 1400, 1400]);
});

test("a prefix is trained at half the rate on few examples, and at any that is asked for", () => {
  const rate = (count: number, request: object = {}) => {
    const asked = job({ template, parameters: null }, { method: "prefix", ...request });
    const plan = planOf(asked, examples, codec, 256);
    return settingsOf(asked as never, plan, Array(count).fill([{ length: 10 }]), "int8").learningRate;
  };
  expect([16, 300, 5000].map(count => rate(count))).toEqual([0.01, 0.01, 0.02]);
  expect(rate(300, { steps: 100 })).toBe(0.02);
  expect(rate(300, { learning_rate: 0.03 })).toBe(0.03);
});

test.each(["vocabulary", "random"] as const)(
  "virtual tokens that begin as %s are tokens that there are",
  init => {
    const { ids } = planOf(job(null, { init, length: 50 }), examples, codec, 6);
    expect(ids).toHaveLength(50);
    expect(new Set(ids)).toEqual(new Set([0, 1, 2, 3, 4, 5]));
  },
);

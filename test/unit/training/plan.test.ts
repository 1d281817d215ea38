/** What a plan takes from the prompt that training starts from. */
import { describe, expect, test } from "vitest";
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
  teacher: null,
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

describe("few examples", () => {
  const settings = (count: number, request: object = {}, more: object = {}) => {
    const asked = { ...job({ template, parameters: null }, { method: "prefix", ...request }), ...more };
    const plan = planOf(asked, examples, codec, 256);
    return settingsOf(asked as never, plan, Array(count).fill([{ length: 10 }]), "int8");
  };

  test("are seen six times by a prefix that learns labels, twenty times by any other", () => {
    const steps = (...given: Parameters<typeof settings>) => settings(...given).steps;
    expect([16, 400, 800, 5000].map(count => steps(count))).toEqual([150, 150, 300, 1000]);
    expect(steps(400, { method: "soft" })).toBe(500);
    expect(steps(400, {}, { teacher: { template: "", parameters: null } })).toBe(500);
    expect(steps(400, { steps: 7 })).toBe(7);
  });

  test("are learnt at half the rate where the least steps see them often, and at any that is asked for", () => {
    const rate = (...given: Parameters<typeof settings>) => settings(...given).learningRate;
    expect([16, 300, 301, 5000].map(count => rate(count))).toEqual([0.01, 0.01, 0.02, 0.02]);
    expect(rate(300, { steps: 100 })).toBe(0.02);
    expect(rate(300, { learning_rate: 0.03 })).toBe(0.03);
    const labels = Array.from({ length: 77 }, (_, index) => `${index}`);
    expect(rate(300, {}, { task: { ...job(null).task, labels } })).toBe(0.02);
  });
});

test.each(["vocabulary", "random"] as const)(
  "virtual tokens that begin as %s are tokens that there are",
  init => {
    const { ids } = planOf(job(null, { init, length: 50 }), examples, codec, 6);
    expect(ids).toHaveLength(50);
    expect(new Set(ids)).toEqual(new Set([0, 1, 2, 3, 4, 5]));
  },
);

import { describe, expect, test } from "vitest";
import { softLengths } from "../../../src/prompt/layout.ts";
import { compileTemplate } from "../../../src/prompt/template.ts";
import { leadOf } from "../../../src/training/lead.ts";
import { settingsOf } from "../../../src/training/plan.ts";
import { classificationRows, contextOf, type TrainingRow } from "../../../src/training/rows.ts";
import { characters as codec } from "../../support/characters.ts";
import { smollm2 } from "../../support/sizes.ts";

const { encode } = codec;
const planOf = (source: string, method: "soft" | "prefix" = "soft") => {
  const template = compileTemplate(source);
  return { method, template, softLengths: softLengths(template, codec) };
};
const found = (...plan: Parameters<typeof planOf>) => leadOf(planOf(...plan), codec, smollm2);

describe("what is computed once for all rows", () => {
  test("words and slots before the first field, BOS among them", () => {
    expect(found('ab{{ soft(3) }}c{{ soft("xy") }}{{ input }}:')).toEqual({
      segments: [
        { ids: [1] },
        { ids: encode("ab") },
        { soft: { from: 0, length: 3 } },
        { ids: encode("c") },
        { soft: { from: 3, length: 2 } },
      ],
      length: 9,
      decisions: [],
      next: [],
    });
  });

  test.each([
    ["a slot behind a field", "{{ soft(3) }}{{ input }}{{ soft(2) }}", "soft"],
    ["a beginning whose way back takes too much memory", "{{ soft(400) }}{{ input }}", "soft"],
    ["a prefix, which has no virtual tokens", "{{ input }}:", "prefix"],
  ] as const)("not %s", (_, template, method) => {
    expect(found(template, method)).toBeNull();
  });

  test("rows hold what stands behind it, and a run's length counts it once a step", () => {
    const plan = {
      ...planOf("{{ soft(64) }}{{ input }}:"),
      labelSmoothing: 0,
      classWeights: new Map(),
      maxTokens: 100,
    } as unknown as Parameters<typeof contextOf>[0];
    const task = { labels: ["x", "y"] };
    const lead = leadOf(plan, codec, smollm2)!;
    const rowsOf = (lead: TrainingRow | null) => {
      const { labels, ...context } = contextOf(plan, task, codec, 1000, { base: 0, lead });
      return classificationRows({ input: "a".repeat(60), label: "x" }, { ...context, ...labels! });
    };
    const [inside, behind] = [rowsOf(null), rowsOf(lead)];
    expect(inside[0]!.length - behind[0]!.length).toBe(65);
    expect(inside[0]!.decisions[0]!.at - behind[0]!.decisions[0]!.at).toBe(65);
    expect(behind[0]!.segments.every(segment => "ids" in segment)).toBe(true);

    const job = { request: {}, task: { labels: null } } as unknown as Parameters<typeof settingsOf>[0];
    const steps = (rows: typeof inside, lead: TrainingRow | null) =>
      settingsOf(job, plan, Array<typeof inside>(8000).fill(rows), "int8", lead).steps;
    // 300,000 tokens in batches of 15 rows of 127 tokens, which are too few, or of 62 behind 65.
    expect(steps(inside, null)).toBe(157);
    expect(steps(behind, lead)).toBe(284);
  });

  test("max_tokens counts what stands behind the beginning alone, wherever that is computed", () => {
    const context = (lead: TrainingRow | null, room: number) =>
      contextOf(
        { ...planOf("{{ soft(64) }}{{ input }}:"), maxTokens: 100 } as never,
        { labels: null },
        codec,
        room,
        { base: 0, lead },
      ).maxTokens;
    const lead = leadOf(planOf("{{ soft(64) }}{{ input }}:"), codec, smollm2)!;
    expect([context(lead, 1000), context(null, 1000)]).toEqual([100, 165]);
    expect([context(lead, 120), context(null, 120)]).toEqual([55, 120]);
    expect([context(lead, 50), context(null, 50)]).toEqual([0, 50]);
  });
});

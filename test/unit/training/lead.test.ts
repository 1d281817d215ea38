import { describe, expect, test } from "vitest";
import type { BackboneConfig } from "../../../src/backbone/source.ts";
import type { TextCodec } from "../../../src/prompt/codec.ts";
import { softLengths } from "../../../src/prompt/layout.ts";
import { compileTemplate } from "../../../src/prompt/template.ts";
import { leadOf } from "../../../src/training/lead.ts";
import { settingsOf } from "../../../src/training/plan.ts";
import { classificationRows, contextOf } from "../../../src/training/rows.ts";

/** A token a character. */
const encode = (text: string) => [...text].map(char => char.codePointAt(0)!);
const codec: TextCodec & { eosIds: number[] } = {
  bosId: 1,
  eosIds: [0],
  encode,
  encodeWithSpecials: encode,
};
const config = {
  layers: 30,
  hiddenSize: 576,
  intermediateSize: 1536,
  heads: 9,
  vocabSize: 49152,
} as BackboneConfig;

const planOf = (source: string, method: "soft" | "prefix" = "soft") => {
  const template = compileTemplate(source);
  return { method, template, softLengths: softLengths(template, codec) };
};
const lead = (...plan: Parameters<typeof planOf>) => leadOf(planOf(...plan), codec, config);

describe("what is computed once for all rows", () => {
  test("words and slots before the first field, BOS among them", () => {
    expect(lead('ab{{ soft(3) }}c{{ soft("xy") }}{{ input }}:')).toEqual({
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
    expect(lead(template, method)).toBeNull();
  });

  test("rows hold what stands behind it, and a run's length counts it once a step", () => {
    const plan = {
      ...planOf("{{ soft(64) }}{{ input }}:"),
      labelSmoothing: 0,
      classWeights: new Map(),
      maxTokens: 100,
    } as unknown as Parameters<typeof contextOf>[0];
    const task = { labels: ["x", "y"] };
    const rowsOf = (led: boolean) => {
      const { labels, ...context } = contextOf(plan, task, codec, 1000, led);
      return classificationRows({ input: "abcdefgh", label: "x" }, { ...context, ...labels! });
    };
    const [inside, behind] = [rowsOf(false), rowsOf(true)];
    expect(inside[0]!.length - behind[0]!.length).toBe(65);
    expect(inside[0]!.decisions[0]!.at - behind[0]!.decisions[0]!.at).toBe(65);
    expect(behind[0]!.segments.every(segment => "ids" in segment)).toBe(true);

    const job = { request: {} } as Parameters<typeof settingsOf>[0];
    const steps = (rows: typeof inside, lead: number) =>
      settingsOf(job, plan, Array<typeof inside>(8000).fill(rows), "int8", lead).steps;
    expect(steps(inside, 0)).toBe(Math.round(300_000 / (16 * inside[0]!.length)));
    expect(steps(behind, 65)).toBe(Math.min(1000, Math.round(300_000 / (16 * behind[0]!.length + 65))));
  });
});

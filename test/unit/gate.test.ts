import { describe, expect, test } from "vitest";
import type { BackboneReport } from "../../src/contract/backbone.ts";
import { trainingPrecision, withLearning } from "../../src/gate/choice.ts";
import { learnsAsWell } from "../../src/gate/learned.ts";

const row = { bytes: 1, text_loss: 3.8, gradient_cosine: 1, serves: true, trains: true };
const report = (trains: boolean, runtime = "onnx") =>
  ({
    fingerprint: "of no backbone that was measured",
    runtime: { name: runtime, backend: "cpu", version: "1", threads: 2 },
    precision: {
      active: "int8",
      table: [
        { ...row, precision: "fp32" },
        { ...row, precision: "int8", trains },
      ],
    },
  }) as unknown as BackboneReport;

describe("which precision trains", () => {
  test("what was asked for", () => {
    expect(trainingPrecision("fp32", report(true))).toBe("fp32");
    expect(trainingPrecision("int8", report(false))).toBe("int8");
  });

  test("int8 on a runtime that has none is refused", () => {
    expect(() => trainingPrecision("int8", report(true, "tfjs"))).toThrow(/tfjs computes fp32 alone/);
  });

  test("on a backbone whose learning was not measured: fp32, and the report says so", () => {
    expect(trainingPrecision("auto", report(true))).toBe("fp32");
    expect(withLearning(report(true)).precision).toMatchObject({ active: "int8", training: "fp32" });
  });
});

test("int8 learns as well where it loses at most half a point on every task", () => {
  expect(learnsAsWell(null)).toBe(false);
  expect(learnsAsWell({ a: { fp32: 0.9, int8: 0.895 }, b: { fp32: 0.8, int8: 0.9 } })).toBe(true);
  expect(learnsAsWell({ a: { fp32: 0.9, int8: 0.894 }, b: { fp32: 0.8, int8: 0.9 } })).toBe(false);
});

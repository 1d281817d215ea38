/** Which precision trains: the fast one only where it was measured to learn as well as fp32. */
import type { BackboneReport } from "../contract/backbone.ts";
import { invalid } from "../errors.ts";
import { learnedOn, learnsAsWell } from "./learned.ts";

/** `auto` is int8 if its check on this machine passes and it learned as well as fp32 on this backbone. */
export function trainingPrecision(
  wanted: "auto" | "fp32" | "int8" = "auto",
  { fingerprint, precision, runtime }: BackboneReport,
): "fp32" | "int8" {
  const int8 = precision.table.find(row => row.precision === "int8");
  if (wanted === "fp32") return "fp32";
  if (wanted === "int8") {
    if (runtime.name === "onnx") return "int8";
    throw invalid("precision", `the runtime ${runtime.name} computes fp32 alone. Leave precision out.`);
  }
  return int8?.trains && learnsAsWell(learnedOn(fingerprint)) ? "int8" : "fp32";
}

/** The engine's report with what was measured of learning, and what follows from it. */
export function withLearning(report: BackboneReport): BackboneReport {
  const learned = learnedOn(report.fingerprint);
  const table = report.precision.table.map(row =>
    row.precision === "int8" && learned ? { ...row, learned } : row,
  );
  const precision = { ...report.precision, training: trainingPrecision("auto", report), table };
  return { ...report, precision };
}

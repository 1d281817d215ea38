import type { TopLevelSpec } from "vega-lite";
import { type Entry, floors, written } from "./table.ts";

/** A row of plots a data set, every method a line: each seed's score, the median in words, what is missing in red. */
export function picture(entries: readonly Entry[]): TopLevelSpec {
  const values = entries.flatMap(linesOf);
  const x = { type: "quantitative", title: null, scale: { zero: false, padding: 30 } } as const;
  const y = { field: "method", type: "nominal", sort: null, title: null } as const;
  return {
    $schema: "https://vega.github.io/schema/vega-lite/v6.json",
    title: "Learning: test scores of 100 by seed, and minutes of training; dashes are floors",
    data: { values },
    facet: {
      row: { field: "data", type: "nominal", title: null, header: { labelAngle: 0, labelAlign: "left" } },
    },
    spec: {
      width: 520,
      layer: [
        {
          mark: { type: "point", filled: true, color: "#4c78a8" },
          encoding: { y, x: { ...x, field: "score" } },
        },
        {
          mark: { type: "tick", color: "black", thickness: 2 },
          encoding: { y, x: { ...x, field: "median" } },
        },
        {
          mark: { type: "text", align: "left", dx: 8 },
          encoding: { y, x: { ...x, field: "score" }, text: { field: "text" } },
        },
        {
          mark: { type: "text", color: "#e45756" },
          encoding: { y, x: { value: 40 }, text: { field: "lacks" } },
        },
        {
          mark: { type: "rule", color: "#e45756", strokeDash: [4, 3] },
          encoding: { x: { ...x, field: "floor", aggregate: "max" } },
        },
      ],
    },
    resolve: { scale: { x: "independent", y: "independent" } },
  };
}

interface Line {
  method: string;
  data: string;
  floor: number | null;
  score: number | null;
  median: number | null;
  text: string | null;
  lacks: string | null;
}

function linesOf({ method, data, score, training_minutes, missing }: Entry): Line[] {
  const floor = floors[data] ?? null;
  const common: Line = { method, data, floor, score: null, median: null, text: null, lacks: null };
  if (!score) return [{ ...common, lacks: "not run" }];
  const lacks = missing.length > 0 ? `, ${missing.length} missing` : "";
  const text = `${score.median.toFixed(1)} · ${written(training_minutes)}${lacks}`;
  return [
    ...score.samples.map(sample => ({ ...common, score: sample })),
    { ...common, score: score.max, median: score.median, text },
  ];
}

import type { TopLevelSpec } from "vega-lite";
import type { Check } from "./report.ts";

/** Every figure against its floor, as bars with their spread. */
export function picture(title: string, checks: readonly Check[]): TopLevelSpec {
  const values = checks.map(({ claim, unit, figure, floor, ceiling }) => {
    const bound = floor ?? ceiling!;
    const share = (value: number) => (floor === undefined ? bound / value : value / bound);
    const ends = [share(figure.min), share(figure.max)].sort((a, b) => a - b);
    return {
      claim: `${claim} (${floor === undefined ? "at most" : "at least"} ${bound} ${unit})`,
      median: share(figure.median),
      low: ends[0]!,
      high: ends[1]!,
      text: `${figure.median.toPrecision(3)} ${unit}`,
    };
  });
  const y = { field: "claim", type: "nominal", sort: null, title: null, axis: { labelLimit: 480 } } as const;
  return {
    $schema: "https://vega.github.io/schema/vega-lite/v6.json",
    title: `${title}: each figure against its bound (1 is the bound, more is better)`,
    width: 460,
    data: { values },
    layer: [
      {
        mark: { type: "bar", color: "#4c78a8" },
        encoding: { y, x: { field: "median", type: "quantitative", title: null } },
      },
      { mark: "rule", encoding: { y, x: { field: "low", type: "quantitative" }, x2: { field: "high" } } },
      {
        mark: { type: "text", align: "left", dx: 6, color: "black" },
        encoding: { y, x: { field: "high", type: "quantitative" }, text: { field: "text" } },
      },
      { mark: { type: "rule", color: "#e45756", strokeDash: [4, 3] }, encoding: { x: { datum: 1 } } },
    ],
  };
}

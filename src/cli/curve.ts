/** A curve of losses, drawn with characters. */
import { plot } from "asciichart";
import type { CurvePoint } from "../training/progress.ts";

/** The axis and its labels. */
const MARGIN = 12;
const WIDEST = 72;
const HEIGHT = 9;

/** At most `columns` wide; empty where there is no curve to see. */
export function drawCurve(points: readonly CurvePoint[], columns: number): string {
  if (new Set(points.map(({ loss }) => loss)).size < 2) return "";
  const width = Math.max(10, Math.min(WIDEST, columns - MARGIN));
  const losses = Array.from({ length: width }, (_, column) => lossAt(points, column, width));
  const last = String(points.at(-1)!.step);
  const axis = `${" ".repeat(MARGIN - 1)}step 1${last.padStart(width - 5)}`;
  const format = (loss: number) => loss.toFixed(3).padStart(MARGIN - 3);
  return `${plot(losses, { height: HEIGHT, format }).replace(/ +$/gm, "")}\n${axis}\n`;
}

/** The mean of a column's points; of the nearest one where columns are more than points. */
function lossAt(points: readonly CurvePoint[], column: number, width: number): number {
  const from = Math.floor((column * points.length) / width);
  const to = Math.max(from + 1, Math.floor(((column + 1) * points.length) / width));
  const part = points.slice(from, to);
  return part.reduce((sum, { loss }) => sum + loss, 0) / part.length;
}

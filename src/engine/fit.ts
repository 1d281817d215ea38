import { ForewordError } from "../errors.ts";
import { positions, type Segment } from "../prompt/layout.ts";

/**
 * A row that fits into `room` positions. Only fields' text is cut, at its start or its end, and only where the caller
 * allows it; else `input_too_long` says by how much.
 */
export function fitRow(
  row: readonly Segment[],
  room: number,
  truncate: "start" | "end" | undefined,
): Segment[] {
  const tokens = positions(row);
  const over = tokens - room;
  if (over <= 0) return [...row];
  const cuttable = row.reduce(
    (sum, segment) => sum + ("ids" in segment && segment.field !== undefined ? segment.ids.length : 0),
    0,
  );
  if (!truncate || cuttable <= over) {
    const remedy = truncate
      ? "Even without any input the template is too long: shorten it."
      : 'Shorten it, or send "truncate": "start" or "end".';
    throw new ForewordError(
      "input_too_long",
      `The input has ${tokens} tokens; this prompt leaves room for ${room}, ${over} fewer. ${remedy}`,
      { tokens, limit: room, over },
    );
  }
  let left = over;
  const cut = (segment: Segment): Segment => {
    if (!("ids" in segment) || segment.field === undefined || left === 0) return segment;
    const count = Math.min(left, segment.ids.length);
    left -= count;
    return {
      ...segment,
      ids: truncate === "start" ? segment.ids.slice(count) : segment.ids.slice(0, segment.ids.length - count),
    };
  };
  return truncate === "start" ? row.map(cut) : row.toReversed().map(cut).reverse();
}

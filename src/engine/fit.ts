import { ForewordError } from "../errors.ts";
import type { FieldValue, FieldValues } from "../prompt/fields.ts";
import { positions, type Segment } from "../prompt/layout.ts";

/** Refuses, before it is encoded, a text that must have over `tokens` tokens if none has over `longest` characters. */
export function requireShort(text: string, field: string, tokens: number, longest: number): void {
  if (text.length <= tokens * longest) return;
  const least = Math.ceil(text.length / longest);
  throw new ForewordError(
    "input_too_long",
    `${field}: a text of ${text.length} characters has ${least} tokens at least; the backbone's context has ${tokens}. Shorten it.`,
    { field, tokens: least, limit: tokens, over: least - tokens },
  );
}

/**
 * Fields whose texts are not longer than `tokens` tokens can be: encoding takes time and memory by the character. What
 * is cut here `fitRow` would cut too.
 */
export function boundFields(
  input: string | FieldValues,
  tokens: number,
  longest: number,
  truncate: "start" | "end" | undefined,
): string | FieldValues {
  const most = tokens * longest;
  const text = (value: string, field: string): string => {
    if (!truncate) requireShort(value, field, tokens, longest);
    if (value.length <= most) return value;
    return truncate === "start" ? value.slice(-most) : value.slice(0, most);
  };
  const field = (value: FieldValue, name: string): FieldValue =>
    typeof value === "string"
      ? text(value, name)
      : value.map(message => ({ ...message, content: text(message.content, name) }));
  if (typeof input === "string") return text(input, "input");
  return Object.fromEntries(Object.entries(input).map(([name, value]) => [name, field(value, name)]));
}

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

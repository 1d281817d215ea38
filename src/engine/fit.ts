import { ForewordError } from "../errors.ts";
import type { FieldValue, FieldValues } from "../prompt/fields.ts";
import { positions, type Segment } from "../prompt/layout.ts";

/** Characters that are encoded first for each token that there is room for; a token of prose has four or five. */
const CHARACTERS = 4;

export type Encode = (text: string) => readonly number[];

/**
 * As much of a text as has more than `tokens` tokens, from its end where its start may be cut, and how many it has; null
 * where all of it may be wanted. Encoding takes time by the character: of a text that is far too long, most is never
 * encoded.
 */
function enough(text: string, tokens: number, encode: Encode, cut: "start" | "end") {
  for (let size = CHARACTERS * tokens; size < text.length; size *= 2) {
    const part = cut === "start" ? text.slice(-size) : text.slice(0, size);
    const has = encode(part).length;
    if (has > tokens) return { part, tokens: has };
  }
  return null;
}

/** Refuses, before all of it is encoded, a text that has over `tokens` tokens by far. */
export function requireShort(text: string, field: string, tokens: number, encode: Encode): void {
  const least = enough(text, tokens, encode, "end")?.tokens;
  if (least === undefined) return;
  throw new ForewordError(
    "input_too_long",
    `${field}: a text of ${text.length} characters has ${least} tokens at least; the backbone's context has ${tokens}. Shorten it.`,
    { field, tokens: least, limit: tokens, over: least - tokens },
  );
}

/** Fields whose texts are not much longer than `tokens` tokens. What is cut here `fitRow` would cut too. */
export function boundFields(
  input: string | FieldValues,
  tokens: number,
  encode: Encode,
  truncate: "start" | "end" | undefined,
): string | FieldValues {
  const text = (value: string, field: string): string => {
    if (truncate) return enough(value, tokens, encode, truncate)?.part ?? value;
    requireShort(value, field, tokens, encode);
    return value;
  };
  const field = (value: FieldValue, name: string): FieldValue =>
    typeof value === "string"
      ? text(value, name)
      : value.map(message => ({ ...message, content: text(message.content, name) }));
  if (typeof input === "string") return text(input, "input");
  return Object.fromEntries(Object.entries(input).map(([name, value]) => [name, field(value, name)]));
}

/** Whether a segment is the prompt's own: only fields' text may be cut. */
export const isFixed = (segment: Segment): boolean => !("ids" in segment) || segment.field === undefined;

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
  const cuttable = tokens - positions(row.filter(isFixed));
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

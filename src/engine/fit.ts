import { ForewordError } from "../errors.ts";
import type { FieldValue, FieldValues } from "../prompt/fields.ts";
import { positions, type Segment } from "../prompt/layout.ts";

/**
 * Characters that are encoded for each position of the context; a token of prose has four or five. Encoding takes time by
 * the character, most for those that make few tokens: spaces in a row, rules of dashes.
 */
const CHARACTERS = 6;
/** What is left at least of each text that is cut, so that no field becomes empty. */
const LEAST = 64;

export type Encode = (text: string) => readonly number[];

/** Refuses, before all of it is encoded, a text of more than `most` characters for the context's `tokens`. */
export function requireShort(
  text: string,
  field: string,
  tokens: number,
  encode: Encode,
  most = CHARACTERS * tokens,
): void {
  if (text.length <= most) return;
  const least = encode(text.slice(0, most)).length;
  const why =
    least > tokens
      ? `has ${least} tokens at least; the backbone's context has ${tokens}`
      : `is longer than what is encoded: ${CHARACTERS} characters for each of the ${tokens} positions of the backbone's context, for all that the template writes together`;
  const figures = least > tokens ? { tokens: least, limit: tokens, over: least - tokens } : { limit: tokens };
  throw new ForewordError(
    "input_too_long",
    `${field}: a text of ${text.length} characters ${why}. Shorten it.`,
    { field, ...figures },
  );
}

/**
 * Fields whose texts together have no more characters than are encoded for `tokens` positions, in the order of `names`,
 * which has each as often as the template writes it: so often its text is encoded. What is cut here `fitRow` would cut
 * too: the row's fields from its start, or from its end.
 */
export function boundFields(
  input: string | FieldValues,
  names: readonly string[],
  tokens: number,
  encode: Encode,
  truncate: "start" | "end" | undefined,
): string | FieldValues {
  let left = CHARACTERS * tokens;
  const text = (value: string, field: string, name = field): string => {
    const times = Math.max(1, names.filter(each => each === name).length);
    const most = Math.floor(left / times);
    if (!truncate) requireShort(value, field, tokens, encode, most);
    const kept = truncate ? shortened(value, Math.max(most, LEAST), truncate) : value;
    left = Math.max(0, left - times * value.length);
    return kept;
  };
  /** What is kept first comes first. */
  const each = <One, Changed>(list: readonly One[], change: (one: One) => Changed): Changed[] =>
    truncate === "start" ? list.toReversed().map(change).reverse() : list.map(change);
  const field = (value: FieldValue, name: string): FieldValue =>
    typeof value === "string"
      ? text(value, name)
      : each(value, message => ({ ...message, content: text(message.content, name) }));
  if (typeof input === "string") return text(input, "input", names[0]);
  const inOrder = Object.entries(input).sort(([a], [b]) => names.indexOf(a) - names.indexOf(b));
  return Object.fromEntries(each(inOrder, ([name, value]) => [name, field(value, name)]));
}

/** At most so many characters of a text; half a surrogate pair is none. */
function shortened(text: string, most: number, cut: "start" | "end"): string {
  if (text.length <= most) return text;
  return cut === "start"
    ? text.slice(-most).replace(/^[\uDC00-\uDFFF]/, "")
    : text.slice(0, most).replace(/[\uD800-\uDBFF]$/, "");
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

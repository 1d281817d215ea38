/**
 * From a template to positions (contract, section 1): literals and fields are tokenised separately, in order. What
 * stands before the first field is the same for every request and becomes the KV prefix; the rest is the row.
 */
import { ForewordError } from "../errors.ts";
import { layoutChat } from "./chat.ts";
import type { TextCodec } from "./codec.ts";
import { chatField, type FieldValue, type FieldValues, fillFields } from "./fields.ts";
import type { CompiledTemplate, Field, Soft, TemplatePiece } from "./template.ts";

/** Token ids; `field` names the field whose text they are: only those may be cut when an input is too long. */
export interface TokenSegment {
  ids: number[];
  field?: string;
}

/** Rows `from` … `from + length - 1` of the prompt's `soft` matrix. */
export interface SoftSegment {
  soft: { from: number; length: number };
}

export type Segment = TokenSegment | SoftSegment;

/** Positions of every soft slot, in the template's order; a slot with a start text has as many as that text has tokens. */
export function softLengths(template: CompiledTemplate, codec: TextCodec): number[] {
  return template.pieces
    .filter(piece => piece.kind === "soft")
    .map(slot => slot.length ?? codec.encodeWithSpecials(slot.start!, { first: true }).length);
}

/**
 * The segments before the first field, BOS first where the tokenizer adds one and the template does not write it itself,
 * as `{{ soft(20) }}<s>{{ input }}` does. `lengths` are those of `softLengths`, or what the prompt's parameters have.
 */
export function layoutPrefix(
  template: CompiledTemplate,
  codec: TextCodec,
  lengths: readonly number[] = softLengths(template, codec),
): Segment[] {
  const bos: Segment[] = codec.bosId === null || writesBos(template, codec) ? [] : [{ ids: [codec.bosId] }];
  return [...bos, ...layoutWritten(template, codec, lengths)];
}

/** The segments before the first field that the template writes: what stands behind a trained prefix. */
export function layoutWritten(
  template: CompiledTemplate,
  codec: TextCodec,
  lengths: readonly number[] = softLengths(template, codec),
): Segment[] {
  const slots = slotSegments(template, lengths);
  const before = template.pieces.slice(0, firstField(template));
  const first = firstText(template, codec);
  return before.map(piece =>
    fixedSegment(piece as Exclude<TemplatePiece, Field>, codec, slots, piece === first),
  );
}

/** Whether a literal before the first field begins with the tokenizer's BOS. */
export function writesBos(template: CompiledTemplate, { bosText }: Pick<TextCodec, "bosText">): boolean {
  const before = template.pieces.slice(0, firstField(template));
  return bosText !== null && before.some(piece => piece.kind === "literal" && piece.text.startsWith(bosText));
}

/**
 * A template for what another prompt is stacked on: the white space before the first field stays with the words before
 * it, since no field takes it here.
 */
export function wholeBefore(template: CompiledTemplate): CompiledTemplate {
  const { pieces } = template;
  const field = firstField(template);
  const { lead } = pieces[field] as Field;
  if (lead === "") return template;
  const last = pieces[field - 1];
  const text = last?.kind === "literal" ? last.text : "";
  const words = pieces.slice(0, last?.kind === "literal" ? field - 1 : field);
  const whole = [...words, { kind: "literal" as const, text: text + lead }, ...pieces.slice(field)];
  return { ...template, pieces: whole };
}

/** The segments from the first field on; each field has a token at least. Throws what `fillFields` throws. */
export function layoutRow(
  template: CompiledTemplate,
  codec: TextCodec,
  input: string | FieldValues,
  lengths: readonly number[] = softLengths(template, codec),
): Segment[] {
  const values = fillFields(template, input);
  const slots = slotSegments(template, lengths);
  const first = firstText(template, codec);
  return template.pieces
    .slice(firstField(template))
    .flatMap(piece =>
      piece.kind === "field"
        ? told(piece, fieldSegments(piece, values.get(piece.name)!, codec, piece === first))
        : [fixedSegment(piece, codec, slots)],
    );
}

/** What stands behind the first field, whatever fills it and others. */
export function layoutBehind(
  template: CompiledTemplate,
  codec: TextCodec,
  lengths: readonly number[] = softLengths(template, codec),
): Segment[] {
  const slots = slotSegments(template, lengths);
  return template.pieces
    .slice(firstField(template))
    .flatMap(piece => (piece.kind === "field" ? [] : [fixedSegment(piece, codec, slots)]));
}

/** How many positions the segments take. */
export function positions(segments: readonly Segment[]): number {
  return segments.reduce(
    (sum, segment) => sum + ("ids" in segment ? segment.ids.length : segment.soft.length),
    0,
  );
}

/** What says the first words: those of virtual tokens are no text, and BOS says none. */
const firstText = (
  { pieces }: CompiledTemplate,
  { bosText }: Pick<TextCodec, "bosText">,
): TemplatePiece | undefined =>
  pieces.find(piece => piece.kind === "field" || (piece.kind === "literal" && piece.text !== bosText));

function firstField(template: CompiledTemplate): number {
  return template.pieces.findIndex(piece => piece.kind === "field");
}

function slotSegments(template: CompiledTemplate, lengths: readonly number[]): Map<Soft, SoftSegment> {
  const slots = template.pieces.filter(piece => piece.kind === "soft");
  if (slots.length !== lengths.length) {
    throw new RangeError(
      `the template has ${slots.length} soft slots, and ${lengths.length} lengths were given`,
    );
  }
  let from = 0;
  return new Map(
    slots.map((slot, index) => {
      const segment = { soft: { from, length: lengths[index]! } };
      from += segment.soft.length;
      return [slot, segment];
    }),
  );
}

function fixedSegment(
  piece: Exclude<TemplatePiece, Field>,
  codec: TextCodec,
  slots: ReadonlyMap<Soft, SoftSegment>,
  first = false,
): Segment {
  if (piece.kind === "soft") return slots.get(piece)!;
  const { bosId, bosText } = codec;
  // Some tokenizers treat a text's first word apart: behind BOS it is one, as when the tokenizer adds BOS itself.
  if (bosId !== null && bosText !== null && piece.text.startsWith(bosText))
    return { ids: [bosId, ...codec.encodeWithSpecials(piece.text.slice(bosText.length), { first: true })] };
  return { ids: codec.encodeWithSpecials(piece.text, { first }) };
}

/** Refuses a text of which the backbone's vocabulary has nothing, as some have no token for a control character. */
function told({ name }: Field, segments: TokenSegment[]): TokenSegment[] {
  if (segments.some(({ field, ids }) => field !== undefined && ids.length > 0)) return segments;
  throw new ForewordError(
    "empty_input",
    `Field ${JSON.stringify(name)} has no character that the backbone's vocabulary knows. Send a text.`,
    { field: name },
  );
}

function fieldSegments(
  { name, lead }: Field,
  value: FieldValue,
  codec: TextCodec,
  first: boolean,
): TokenSegment[] {
  if (typeof value === "string") return [{ ids: codec.encode(lead + value, { first }), field: name }];
  const space: TokenSegment[] = lead === "" ? [] : [{ ids: codec.encode(lead) }];
  const runs = layoutChat(codec, value, { first }).map(
    ({ ids, fromCaller }): TokenSegment => (fromCaller ? { ids, field: chatField } : { ids }),
  );
  return [...space, ...runs];
}

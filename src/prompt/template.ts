/**
 * Templates: text with fields `{{ name }}`, filled by the request, and soft slots `{{ soft(20) }}` or
 * `{{ soft("start text") }}`, filled by the prompt's trained embeddings. Single braces are plain text.
 */
import { ForewordError } from "../errors.ts";
import { scanTag } from "./tag.ts";

export interface Literal {
  kind: "literal";
  text: string;
}

export interface Field {
  kind: "field";
  name: string;
  /** White space that stood at the end of the literal before: it is tokenised with the field's text. */
  lead: string;
}

export interface Soft {
  kind: "soft";
  /** Positions; null where `start` decides, by its number of tokens. */
  length: number | null;
  /** The text that training starts from; null where only a length is given. */
  start: string | null;
}

export type TemplatePiece = Literal | Field | Soft;

export interface CompiledTemplate {
  source: string;
  pieces: readonly TemplatePiece[];
  /** Field names, each once, in the order of their first use. */
  fields: readonly string[];
}

/** Every place where a field stands. */
export const fieldsOf = ({ pieces }: Pick<CompiledTemplate, "pieces">): Field[] =>
  pieces.filter(piece => piece.kind === "field");

/** All that the template says itself, start texts among it. */
export const wordsOf = ({ pieces }: Pick<CompiledTemplate, "pieces">): string =>
  pieces
    .map(piece =>
      piece.kind === "literal" ? piece.text : piece.kind === "soft" ? (piece.start ?? "") : piece.lead,
    )
    .join("");

export const templateLimits = { bytes: 1 << 20 } as const;

/** Throws `bad_template`, which names the place (line and column, counted in characters from 1) and the remedy. */
export function compileTemplate(source: string): CompiledTemplate {
  checkText(source);
  const pieces: TemplatePiece[] = [];
  let at = 0;
  while (at < source.length) {
    const open = source.indexOf("{{", at);
    const end = open < 0 ? source.length : open;
    if (end > at) pieces.push({ kind: "literal", text: source.slice(at, end) });
    if (open < 0) break;
    const tag = scanTag(source, open);
    pieces.push(tag.piece);
    at = tag.end;
  }
  const fields = [...new Set(fieldsOf({ pieces }).map(({ name }) => name))];
  if (fields.length === 0) {
    throw new ForewordError(
      "bad_template",
      "The template has no field, so no input could enter it. Write {{ input }} where the input belongs.",
    );
  }
  return { source, pieces: moveSpace(pieces), fields };
}

export const hasSlots = ({ pieces }: Pick<CompiledTemplate, "pieces">): boolean =>
  pieces.some(piece => piece.kind === "soft");

function checkText(source: string): void {
  const bytes = Buffer.byteLength(source);
  if (bytes > templateLimits.bytes) {
    throw new ForewordError(
      "bad_template",
      `The template has ${bytes} bytes; at most ${templateLimits.bytes} are taken. Shorten it.`,
      { limit: templateLimits.bytes },
    );
  }
  const surrogate = source.search(/\p{Surrogate}/u);
  if (surrogate >= 0) {
    throw new ForewordError(
      "bad_template",
      `The template has half of a surrogate pair at index ${surrogate}, which is not text. Remove it.`,
    );
  }
}

/** Most vocabularies write a word with the space before it, so that space belongs to the field's tokens. */
function moveSpace(pieces: readonly TemplatePiece[]): TemplatePiece[] {
  return pieces.flatMap((piece, index): TemplatePiece[] => {
    if (piece.kind === "literal" && pieces[index + 1]?.kind === "field") {
      const text = piece.text.trimEnd();
      return text === "" ? [] : [{ ...piece, text }];
    }
    const before = pieces[index - 1];
    if (piece.kind === "field" && before?.kind === "literal") {
      return [{ ...piece, lead: before.text.slice(before.text.trimEnd().length) }];
    }
    return [piece];
  });
}

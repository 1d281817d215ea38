import type { Piece, PromptKind } from "../contract/prompt.ts";
import type { CompiledTemplate } from "./template.ts";

/** How many trained positions a prompt has: rows of `soft`, and positions of the stored prefix. */
export interface ParameterShape {
  /** One length a slot, in template order. */
  softLengths?: readonly number[];
  prefix?: number;
}

/** What a prompt is made of, for people: its words as they were written, and what training moved. */
export function pieces(template: CompiledTemplate, parameters: ParameterShape = {}): Piece[] {
  const { softLengths = [], prefix = 0 } = parameters;
  let slot = 0;
  const written = template.pieces.flatMap((piece): Piece[] => {
    if (piece.kind === "literal") return [{ text: piece.text, frozen: true }];
    if (piece.kind === "soft") return [{ soft: softLengths[slot++] ?? piece.length ?? 0, trained: true }];
    const field: Piece = { field: piece.name, frozen: true };
    return piece.lead === "" ? [field] : [{ text: piece.lead, frozen: true }, field];
  });
  return [...(prefix > 0 ? [{ prefix, trained: true } as const] : []), ...joinText(written)];
}

/** A literal's moved white space goes back to it. */
function joinText(list: readonly Piece[]): Piece[] {
  const joined: Piece[] = [];
  for (const piece of list) {
    const last = joined.at(-1);
    if (last && "text" in last && "text" in piece)
      joined[joined.length - 1] = { text: last.text + piece.text, frozen: true };
    else joined.push(piece);
  }
  return joined;
}

export function promptKind(parameters: ParameterShape): PromptKind {
  const soft = (parameters.softLengths?.length ?? 0) > 0;
  const prefix = (parameters.prefix ?? 0) > 0;
  if (soft && prefix) return "mixed";
  return soft ? "soft" : prefix ? "prefix" : "hard";
}

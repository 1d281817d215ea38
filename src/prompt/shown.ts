/** What a prompt is made of, for people: the pieces of all that it stands on, then its own. */
import type { Piece } from "../contract/prompt.ts";
import type { PromptFile, PromptLayer } from "./file.ts";
import { pieces } from "./pieces.ts";
import { compileTemplate } from "./template.ts";

/** `softLengths`: of each of those it stands on, then of its own, as the tokenizer measures start texts. */
export const shownPieces = (
  { bases = [], ...own }: PromptLayer & Pick<PromptFile, "bases">,
  softLengths: readonly (readonly number[])[] = [...bases, own].map(guessedLengths),
): Piece[] => [
  ...bases.flatMap((base, index) => basePieces(base, softLengths[index]!)),
  ...piecesOf(own, softLengths[bases.length]!),
];

/** Without a tokenizer: right where at most one slot leaves its length to it. */
function guessedLengths({ template, soft }: PromptLayer): number[] {
  const slots = compileTemplate(template).pieces.filter(piece => piece.kind === "soft");
  const known = slots.reduce((sum, slot) => sum + (slot.length ?? 0), 0);
  const open = slots.filter(slot => slot.length === null).length;
  return slots.map(slot => slot.length ?? Math.round(((soft?.dims[0] ?? 0) - known) / open));
}

const piecesOf = ({ template, prefix }: PromptLayer, softLengths: readonly number[]): Piece[] =>
  pieces(compileTemplate(template), { softLengths, prefix: prefix?.dims[2] ?? 0 });

/** What stands before the first field; nothing of it is trained here. */
function basePieces(layer: PromptLayer, softLengths: readonly number[]): Piece[] {
  const all = piecesOf(layer, softLengths);
  const field = all.findIndex(piece => "field" in piece);
  return all
    .slice(0, field)
    .map(({ trained: _, ...piece }: Piece & { trained?: true }) => ({ ...piece, frozen: true }) as Piece);
}

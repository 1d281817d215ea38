/** What a prompt is made of, for people: the pieces of all that it stands on, then its own. */
import type { Piece } from "../contract/prompt.ts";
import type { PromptFile, PromptLayer } from "./file.ts";
import { pieces } from "./pieces.ts";
import { compileTemplate } from "./template.ts";

export const shownPieces = ({ bases = [], ...own }: PromptLayer & Pick<PromptFile, "bases">): Piece[] => [
  ...bases.flatMap(basePieces),
  ...piecesOf(own),
];

function piecesOf({ template: source, soft, prefix }: PromptLayer): Piece[] {
  const template = compileTemplate(source);
  const slots = template.pieces.filter(piece => piece.kind === "soft");
  const rows = soft?.dims[0] ?? 0;
  // At most one slot's length follows from the tokenizer alone where the template does not say it.
  const known = slots.reduce((sum, slot) => sum + (slot.length ?? 0), 0);
  const open = slots.filter(slot => slot.length === null).length;
  const softLengths = slots.map(slot => slot.length ?? Math.round((rows - known) / open));
  return pieces(template, { softLengths, prefix: prefix?.dims[2] ?? 0 });
}

/** What stands before the first field; nothing of it is trained here. */
function basePieces(layer: PromptLayer): Piece[] {
  const all = piecesOf(layer);
  const field = all.findIndex(piece => "field" in piece);
  return all
    .slice(0, field)
    .map(({ trained: _, ...piece }: Piece & { trained?: true }) => ({ ...piece, frozen: true }) as Piece);
}

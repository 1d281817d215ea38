/** Records as replies. */
import { type Static, Type } from "typebox";
import { Piece, PromptRecord } from "../contract/prompt.ts";
import type { Engine } from "../engine/engine.ts";
import { ForewordError } from "../errors.ts";
import { fits } from "../jobs/contents.ts";
import { type PromptLayer, readPromptFile } from "../prompt/file.ts";
import { pieces } from "../prompt/pieces.ts";
import { compileTemplate } from "../prompt/template.ts";
import type { Registry } from "../registry/registry.ts";

export const PromptView = Type.Object({
  ...PromptRecord.properties,
  pieces: Type.Array(Piece, {
    description: "What the prompt is made of, and which of it training moves: words are frozen.",
  }),
  compatible: Type.Boolean({ description: "Whether the backbone that is loaded can serve it." }),
});
export type PromptView = Static<typeof PromptView>;

export async function promptView(
  record: PromptRecord,
  registry: Registry,
  engine: Engine,
): Promise<PromptView> {
  const { template } = record;
  const file = record.parameters ? readPromptFile(await registry.getBlob(record.parameters)) : null;
  return {
    ...record,
    pieces: [...(file?.bases ?? []).flatMap(basePieces), ...piecesOf({ template, ...file })],
    compatible: compatible(record, engine),
  };
}

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

/** Whether the backbone that is loaded can serve it. Unknown while it loads: true. */
export const compatible = (record: PromptRecord, engine: Engine): boolean =>
  engine.state().status !== "ready" || fits(record, engine.backbone().fingerprint);

/** Throws `backbone_mismatch` where `compatible` says no. */
export function checkCompatible(record: PromptRecord, engine: Engine): void {
  if (compatible(record, engine)) return;
  const { version, backbone } = record;
  throw new ForewordError(
    "backbone_mismatch",
    `Prompt ${version} was trained on ${backbone.name} (${backbone.fingerprint.slice(0, 12)}…), this server runs ${engine.backbone().name}. Activate another version, or train it again.`,
    { prompt: backbone, backbone: engine.backbone().fingerprint },
  );
}

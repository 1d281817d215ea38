/** Records as replies. */
import { type Static, Type } from "typebox";
import { Piece, PromptRecord } from "../contract/prompt.ts";
import type { Engine } from "../engine/engine.ts";
import { ForewordError } from "../errors.ts";
import { fits } from "../jobs/contents.ts";
import { readPromptFile } from "../prompt/file.ts";
import { shownPieces } from "../prompt/shown.ts";
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
  const { template, parameters } = record;
  const pieces = async () =>
    shownPieces(parameters ? readPromptFile(await registry.getBlob(parameters)) : { template });
  return {
    ...record,
    pieces: record.pieces ?? (await pieces()),
    compatible: compatible(record, engine),
  };
}

/** Whether the backbone that is loaded can serve it. Unknown while it loads: true. */
export const compatible = (record: PromptRecord, engine: Engine): boolean =>
  engine.state().status !== "ready" || fits(record, engine.backbone().fingerprint);

/** Throws `backbone_mismatch` where `compatible` says no. */
export function checkCompatible(record: PromptRecord, engine: Engine): void {
  if (!compatible(record, engine)) throw mismatch(record, engine);
}

/** As `checkCompatible`, and `not_ready` before the first backbone is there: what is kept must be known to fit. */
export function requireCompatible(record: PromptRecord, engine: Engine): void {
  if (record.bytes > 0 && !fits(record, engine.backbone().fingerprint)) throw mismatch(record, engine);
}

function mismatch({ version, backbone }: PromptRecord, engine: Engine): ForewordError {
  return new ForewordError(
    "backbone_mismatch",
    `Prompt ${version} was trained on ${backbone.name} (${backbone.fingerprint.slice(0, 12)}…), this server runs ${engine.backbone().name}. Activate another version, or train it again.`,
    { prompt: backbone, backbone: engine.backbone().fingerprint },
  );
}

import { type Static, Type } from "typebox";
import { Id, PromptRef, Timestamp, Version } from "./common.ts";
import { Verbalizers } from "./task.ts";

export const PromptKind = Type.Enum(["hard", "soft", "prefix", "mixed"]);
export type PromptKind = Static<typeof PromptKind>;

/** One piece of a prompt: words never change, nor does what it is stacked on; its own virtual tokens and prefix are what training moves. */
export const Piece = Type.Union([
  Type.Object({ text: Type.String(), frozen: Type.Literal(true) }),
  Type.Object({ field: Type.String(), frozen: Type.Literal(true) }),
  Type.Object({ soft: Type.Integer(), trained: Type.Literal(true) }),
  Type.Object({ prefix: Type.Integer(), trained: Type.Literal(true) }),
  Type.Object({ soft: Type.Integer(), frozen: Type.Literal(true) }),
  Type.Object({ prefix: Type.Integer(), frozen: Type.Literal(true) }),
]);
export type Piece = Static<typeof Piece>;

/** A prompt version as the registry keeps it; its parameters are the blob that `parameters` names. */
export const PromptRecord = Type.Object({
  task: Id,
  version: Version,
  name: Type.Union([Type.String(), Type.Null()]),
  kind: PromptKind,
  template: Type.String(),
  verbalizers: Type.Optional(Verbalizers),
  parameters: Type.Union([Type.String({ description: "SHA-256 of the safetensors file." }), Type.Null()]),
  pieces: Type.Optional(
    Type.Array(Piece, { description: "As its parameters make it; words alone follow from the template." }),
  ),
  length: Type.Integer({
    description:
      "Positions of the KV prefix: tokens, virtual tokens and trained positions before the first field.",
  }),
  bytes: Type.Integer({ description: "Size of the trained parameters." }),
  backbone: Type.Object({ name: Type.String(), fingerprint: Type.String() }),
  parent: Type.Union([Type.Object({ task: Id, version: Version }), Type.Null()]),
  on: Type.Optional(
    Type.Union([PromptRef, Type.Null()], {
      description: "What it was stacked on; it keeps that, whatever becomes of the version.",
    }),
  ),
  recipe: Type.Unknown(),
  metrics: Type.Unknown(),
  created_at: Timestamp,
});
export type PromptRecord = Static<typeof PromptRecord>;

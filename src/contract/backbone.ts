import { type Static, Type } from "typebox";

/** What `GET /backbone` says of the model that answers. */
export const BackboneReport = Type.Object({
  name: Type.String(),
  fingerprint: Type.String({ description: "SHA-256 over the source tensors' names, shapes and bytes." }),
  architecture: Type.String(),
  layers: Type.Integer(),
  hidden: Type.Integer(),
  heads: Type.Integer(),
  kv_heads: Type.Integer(),
  head_dim: Type.Integer(),
  vocabulary: Type.Integer(),
  context: Type.Integer({ description: "Positions at most, prompt, input and answer together." }),
  parameters: Type.Integer(),
  runtime: Type.Object({
    name: Type.String({ description: "`onnx` or `tfjs`" }),
    backend: Type.String(),
    version: Type.String(),
    threads: Type.Integer(),
  }),
  precision: Type.Object({
    active: Type.String(),
    table: Type.Array(Type.Object({ precision: Type.String(), use: Type.String(), bytes: Type.Integer() })),
  }),
  memory: Type.Object({
    rss_bytes: Type.Integer(),
    weights_bytes: Type.Integer(),
    prefix_cache_bytes: Type.Integer(),
    prefix_cache_limit_bytes: Type.Integer(),
  }),
});
export type BackboneReport = Static<typeof BackboneReport>;

import { type Static, Type } from "typebox";
import { Dictionary } from "./common.ts";

const Learned = Type.Object({ fp32: Type.Number(), int8: Type.Number() });

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
  bos: Type.Union([Type.String(), Type.Null()], {
    description: "The token that the tokenizer puts before a text, where it does.",
  }),
  runtime: Type.Object({
    name: Type.String({ description: "`onnx` or `tfjs`" }),
    backend: Type.String(),
    version: Type.String(),
    threads: Type.Integer(),
  }),
  precision: Type.Object({
    active: Type.String({ description: "What answers." }),
    training: Type.Optional(Type.String({ description: "What trains unless a request says otherwise." })),
    table: Type.Array(
      Type.Object({
        precision: Type.String(),
        bytes: Type.Integer({ description: "Of its weights." }),
        text_loss: Type.Union([Type.Number(), Type.Null()], {
          description: "Mean of -log P of a token (nats) on held-out text, on this machine.",
        }),
        gradient_cosine: Type.Union([Type.Number(), Type.Null()], {
          description: "Between its gradient and that of fp32.",
        }),
        serves: Type.Boolean({ description: "Whether it is close enough to fp32 to answer." }),
        trains: Type.Boolean({
          description: "Whether it is close enough to fp32 to train with, and faster.",
        }),
        learned: Type.Optional(
          Dictionary(Learned, {
            description: "Validation accuracy after training in fp32 and in this precision, by task.",
          }),
        ),
      }),
    ),
  }),
  memory: Type.Object({
    rss_bytes: Type.Integer(),
    weights_bytes: Type.Integer(),
    prefix_cache_bytes: Type.Integer(),
    prefix_cache_limit_bytes: Type.Integer(),
  }),
});
export type BackboneReport = Static<typeof BackboneReport>;

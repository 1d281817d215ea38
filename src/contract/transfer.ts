/** What one task's prompt is to another: how alike they are, where a new one should start, what its positions mean. */
import { type Static, Type } from "typebox";
import { Id, PromptRef, Version } from "./common.ts";
import { Examples } from "./dataset.ts";
import { Input } from "./infer.ts";
import { PromptKind } from "./prompt.ts";
import { Init, TrainMethod } from "./train.ts";

/** What is compared: virtual tokens with virtual tokens, prefixes with prefixes. */
export const TrainedKind = Type.Enum(["soft", "prefix"]);
export type TrainedKind = Static<typeof TrainedKind>;

/** Prompts of a kind that one request compares. */
export const MOST_PROMPTS = 200;
/** Donors that one job tries: it holds their parameters. */
export const MOST_DONORS = 64;

const named = { task: Id, version: Version };

const matrix = (description: string) => Type.Array(Type.Array(Type.Number()), { description });

/** Prompts of one kind, and how alike each is to each: rows and columns in the order of `prompts`. */
export const SimilarityGroup = Type.Object({
  kind: TrainedKind,
  prompts: Type.Array(Type.Object({ ...named, positions: Type.Integer() })),
  average_tokens: matrix(
    "Cosine of the averages over the positions (Vu et al. 2022); of prefixes by their values, a layer's cosine each, averaged.",
  ),
  token_pairs: matrix("Average cosine over all pairs of positions."),
});
export type SimilarityGroup = Static<typeof SimilarityGroup>;

export const SimilarityReport = Type.Object({
  backbone: Type.String({ description: "Fingerprint of the one that answers." }),
  groups: Type.Array(SimilarityGroup),
  left_out: Type.Array(Type.Object({ ...named, backbone: Type.String() }), {
    description: "Trained prompts of other backbones, which have nothing in common to compare.",
  }),
});
export type SimilarityReport = Static<typeof SimilarityReport>;

export const DonorsRequest = Type.Object(
  {
    examples: Type.Optional(Examples),
    dataset: Type.Optional(Id),
    candidates: Type.Optional(
      Type.Array(PromptRef, {
        minItems: 1,
        maxItems: MOST_DONORS,
        description:
          "By default a prompt of every other task: what is active where that is trained, else the latest; of more than 64 tasks those trained last.",
      }),
    ),
    method: Type.Optional(TrainMethod),
    template: Type.Optional(
      Type.String({ minLength: 1, description: "As in training: by default the active prompt's." }),
    ),
    seed: Type.Optional(Type.Integer({ minimum: 0, maximum: 2 ** 31 - 1 })),
  },
  { additionalProperties: false, examples: [{ dataset: "reviews" }] },
);
export type DonorsRequest = Static<typeof DonorsRequest>;

/** A start, and how well it does before any step. */
export const RankedStart = Type.Object({
  rank: Type.Integer(),
  init: Init,
  kind: Type.Union([PromptKind, Type.Null()], { description: "Of a donor; null for a start of its own." }),
  loss: Type.Number({
    description:
      "Mean -log P (nats) of the wanted labels, biases and temperature fitted on other examples; of texts a token's mean.",
  }),
  accuracy: Type.Union([Type.Number(), Type.Null()], { description: "With label biases; null for texts." }),
  examples: Type.Integer({ description: "That it answered: the better ones are asked more." }),
});
export type RankedStart = Static<typeof RankedStart>;

export const DonorsReport = Type.Object({
  method: TrainMethod,
  template: Type.Optional(Type.String({ description: "Where the request named one; train with the same." })),
  best: Type.Object({ init: Init }, { description: "For the training request." }),
  table: Type.Array(RankedStart),
  left_out: Type.Array(Type.Object({ ...named, reason: Type.String() })),
});
export type DonorsReport = Static<typeof DonorsReport>;

/** A virtual token, and the words whose embeddings point where it points. */
export const NearestTokens = Type.Object({
  position: Type.Integer({ description: "Among the virtual tokens, from 0." }),
  length: Type.Number({ description: "Of its vector; words have about `word_length`." }),
  tokens: Type.Array(
    Type.Object({
      id: Type.Integer(),
      text: Type.String(),
      similarity: Type.Number({ description: "Cosine with the row of the embedding table." }),
    }),
    { description: "Most similar first." },
  ),
});
export type NearestTokens = Static<typeof NearestTokens>;

export const NearestReport = Type.Object({
  ...named,
  kind: PromptKind,
  word_length: Type.Number({ description: "Of the embedding table's rows, on average." }),
  positions: Type.Array(NearestTokens),
});
export type NearestReport = Static<typeof NearestReport>;

export const NearestQuery = Type.Object({
  count: Type.Optional(
    Type.Integer({ minimum: 1, maximum: 100, default: 5, description: "Tokens for each position." }),
  ),
});

export const AttentionRequest = Type.Object(
  { inputs: Type.Array(Input, { minItems: 1, maxItems: 32 }) },
  { additionalProperties: false, examples: [{ inputs: ["A warm, funny film."] }] },
);
export type AttentionRequest = Static<typeof AttentionRequest>;

/** Shares of attention, from 0 to 1, averaged over heads and inputs. */
const shares = (of: string) => Type.Array(Type.Number(), { description: `${of}, a share a position.` });

export const PromptPosition = Type.Object({
  position: Type.Integer({ description: "In the KV prefix, from 0." }),
  kind: Type.Enum(["trained", "virtual", "word"], {
    description: "Keys and values that were trained, a virtual token, or a word of the template.",
  }),
  text: Type.Optional(Type.String({ description: "Of a word." })),
  attention: Type.Number({
    description: "Share of what all tokens behind the prompt attend to, averaged over the layers.",
  }),
  answer: Type.Number({ description: "The same of the last token, from which the answer is predicted." }),
});
export type PromptPosition = Static<typeof PromptPosition>;

export const AttentionReport = Type.Object({
  ...named,
  kind: PromptKind,
  inputs: Type.Integer(),
  tokens: Type.Integer({ description: "Behind the prompt, of all inputs." }),
  positions: Type.Array(PromptPosition),
  layers: Type.Array(
    Type.Object({
      layer: Type.Integer(),
      attention: shares("Of all tokens behind the prompt"),
      answer: shares("Of the last token"),
    }),
  ),
});
export type AttentionReport = Static<typeof AttentionReport>;

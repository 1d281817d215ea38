import { type Static, Type } from "typebox";
import { Dictionary, Id } from "./common.ts";
import { Examples, Validation } from "./dataset.ts";
import { Estimate } from "./evaluate.ts";
import { Active, Verbalizers } from "./task.ts";
import { Activate, Metric } from "./train.ts";

/** A prompt to be raced beside those that the search thinks of itself. */
export const GivenCandidate = Type.Object(
  {
    name: Type.Optional(Type.String({ minLength: 1, maxLength: 256 })),
    template: Type.String({ minLength: 1 }),
    verbalizers: Type.Optional(Verbalizers),
  },
  { additionalProperties: false },
);
export type GivenCandidate = Static<typeof GivenCandidate>;

/** What decides a search, besides its data. */
const knobs = {
  candidates: Type.Optional(Type.Array(GivenCandidate, { minItems: 1, maxItems: 64 })),
  patterns: Type.Optional(
    Type.Boolean({ description: "Built-in wordings and worked examples; true by default." }),
  ),
  written: Type.Optional(
    Type.Integer({
      minimum: 0,
      maximum: 32,
      description: "Instructions that the backbone writes from examples (Zhou et al. 2023); 4 by default.",
    }),
  ),
  verbalizers: Type.Optional(
    Type.Boolean({ description: "Other texts for the labels too; true by default." }),
  ),
  budget: Type.Optional(
    Type.Integer({
      minimum: 16,
      maximum: 1_000_000,
      description:
        "Answers that the race takes, of all candidates together; 3,000 by default. Each candidate gives 8 a round at least, and the best ones give theirs once more with other label texts.",
    }),
  ),
  metric: Type.Optional(Metric),
  seed: Type.Optional(Type.Integer({ minimum: 0, maximum: 2 ** 31 - 1 })),
};
const Settings = Type.Object(knobs);
export type SearchSettings = Static<typeof Settings>;

export const SearchRequest = Type.Object(
  {
    examples: Type.Optional(Examples),
    dataset: Type.Optional(Id),
    validation: Type.Optional(Validation),
    ...knobs,
    keep: Type.Optional(
      Type.Integer({
        minimum: 1,
        maximum: 8,
        description: "So many of the best become versions; 1 by default.",
      }),
    ),
    activate: Type.Optional(Activate),
  },
  { additionalProperties: false, examples: [{ dataset: "reviews" }] },
);
export type SearchRequest = Static<typeof SearchRequest>;

/** A line of the table, best first. */
export const Ranked = Type.Object({
  rank: Type.Integer(),
  name: Type.String(),
  source: Type.Enum(["active", "pattern", "examples", "written", "caller", "verbalizers"]),
  template: Type.String(),
  verbalizers: Type.Optional(Verbalizers),
  bias: Type.Optional(
    Dictionary(Type.Number(), {
      description:
        "Of the labels, fitted by the search, with which it was judged. What is active has its own where nothing was fitted anew.",
    }),
  ),
  length: Type.Integer({ description: "Positions before the first field." }),
  race: Type.Object({
    score: Type.Number({ description: "By the metric; larger is better." }),
    examples: Type.Integer(),
  }),
  validation: Type.Union([Estimate, Type.Null()], {
    description:
      "Of those that came to the end of the race, on examples that took no part in it; the best of them goes first.",
  }),
  version: Type.Union([Type.Integer(), Type.Null()]),
});
export type Ranked = Static<typeof Ranked>;

export const SearchReport = Type.Object({
  metric: Metric,
  table: Type.Array(Ranked),
  active: Type.Union([Active, Type.Null()], {
    description:
      "What would let the best one answer, its label biases included; null where labels that were changed meanwhile let it answer nothing.",
  }),
});
export type SearchReport = Static<typeof SearchReport>;

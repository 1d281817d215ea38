import { type Static, Type } from "typebox";
import { Dictionary, Id, LabelName, Timestamp, Version } from "./common.ts";

export const TaskType = Type.Enum(["classification", "generation"]);
export type TaskType = Static<typeof TaskType>;

const Verbalizer = Type.String({ minLength: 1, maxLength: 512 });

const Texts = Type.Union([Verbalizer, Type.Array(Verbalizer, { minItems: 1, maxItems: 64 })]);

export const MOST_LABELS = 1024;

export const Verbalizers = Dictionary(Texts, {
  description: "The texts that stand for labels; labels that are left out have those of their task.",
  minProperties: 1,
  maxProperties: MOST_LABELS,
  propertyNames: LabelName,
});
export type Verbalizers = Static<typeof Verbalizers>;

export const Labels = Type.Union(
  [
    Type.Array(LabelName, { minItems: 2, maxItems: MOST_LABELS }),
    Dictionary(Texts, { minProperties: 2, maxProperties: MOST_LABELS, propertyNames: LabelName }),
  ],
  {
    description:
      "Names alone, from which the texts that stand for them follow, or each label with its text, or texts, spelled out.",
  },
);
export type Labels = Static<typeof Labels>;

export const Weight = Type.Number({ minimum: 0, maximum: 1e6 });

/** Lester et al. 2021, section 6. */
export const Vote = Type.Enum(["mean", "majority", "weighted"], {
  description:
    "How an ensemble comes to one answer: by the mean of its members' probabilities (the default), by the label that most of them give, or by a weighted mean.",
});
export type Vote = Static<typeof Vote>;

export const Contender = Type.Union(
  [
    Version,
    Type.Object(
      {
        ensemble: Type.Array(Version, { minItems: 2, maxItems: 32 }),
        vote: Type.Optional(Vote),
        weights: Type.Optional(
          Type.Array(Weight, {
            minItems: 2,
            maxItems: 32,
            description: "Of the members, for a weighted vote.",
          }),
        ),
      },
      { additionalProperties: false },
    ),
  ],
  { description: "A version, or several that vote." },
);
export type Contender = Static<typeof Contender>;

/** One of the three. */
const Answering = {
  prompt: Type.Optional(Type.With(Version, { description: "The version that answers." })),
  ensemble: Type.Optional(
    Type.Array(Version, { minItems: 2, maxItems: 32, description: "Versions that answer together." }),
  ),
  vote: Type.Optional(Vote),
  weights: Type.Optional(
    Type.Array(Weight, { minItems: 2, maxItems: 32, description: "Of the members, for a weighted vote." }),
  ),
  split: Type.Optional(
    Type.Array(Type.Object({ prompt: Version, weight: Weight }, { additionalProperties: false }), {
      minItems: 2,
      maxItems: 32,
      description: "Versions that share the inputs, by weight.",
    }),
  ),
};

const Shadow = Type.Object(
  { prompt: Version, share: Type.Number({ minimum: 0, maximum: 1, description: "Of the inputs." }) },
  {
    additionalProperties: false,
    description:
      "A candidate that answers a share of the inputs too, behind the reply, and is never seen in one: GET /tasks/:id/shadow compares it.",
  },
);

/** The active record. Fitted numbers live here, since prompts are immutable. */
export const Active = Type.Object(
  {
    ...Answering,
    temperature: Type.Optional(
      Type.Number({
        exclusiveMinimum: 0,
        maximum: 100,
        description: "Divides labels' log-probabilities; above 1 it makes them less sure.",
      }),
    ),
    bias: Type.Optional(
      Dictionary(Type.Number({ minimum: -100, maximum: 100 }), {
        description:
          "Added to labels' log-probabilities. It belongs to the record: without it, none is added.",
      }),
    ),
    unsure_below: Type.Optional(
      Type.Number({ minimum: 0, maximum: 1, description: "A best label less probable than this is null." }),
    ),
    agreement_below: Type.Optional(
      Type.Number({
        minimum: 0,
        maximum: 1,
        description: "A label for which a smaller share of the members votes is null.",
      }),
    ),
    shadow: Type.Optional(Shadow),
  },
  { additionalProperties: false, examples: [{ prompt: 1 }] },
);
export type Active = Static<typeof Active>;

/** How a candidate did that answers a share of the inputs too: on the server that is asked, since `since`. */
export const ShadowReport = Type.Object({
  shadow: Type.Union([Shadow, Type.Null()]),
  since: Timestamp,
  compared: Type.Integer(),
  agreed: Type.Integer({ description: "The same label, or the very same text." }),
  agreement: Type.Union([Type.Number(), Type.Null()], {
    description: "Of those compared; null before the first.",
  }),
  failed: Type.Integer({ description: "Inputs that the candidate could not answer." }),
  dropped: Type.Integer({ description: "Inputs that it was not asked, because the server had other work." }),
  last_failure: Type.Union([Type.String(), Type.Null()]),
});
export type ShadowReport = Static<typeof ShadowReport>;

/** An activation, as the history lists it. */
export const Activation = Type.Object({
  revision: Type.Integer({ description: "Of the active record." }),
  active: Type.Union([Active, Type.Null()]),
  by: Type.String({
    description:
      "Who asked: a job's id, `library` for the bundled prompts, `admin` where a key is asked for, or `anonymous`.",
  }),
  at: Timestamp,
});
export type Activation = Static<typeof Activation>;

export const Task = Type.Object({
  id: Id,
  type: TaskType,
  labels: Type.Union([Labels, Type.Null()], { description: "Null for a generation." }),
  description: Type.String(),
  active: Type.Union([Active, Type.Null()], { description: "What answers; null where nothing does yet." }),
  revision: Type.Integer({ description: "Of the description and the labels: the ETag of GET /tasks/:id." }),
  active_revision: Type.Integer({
    description: "Of what is active: the ETag of GET /tasks/:id/active, which `If-Match` takes there.",
  }),
  prompts: Type.Integer({ description: "How many prompt versions the task has." }),
  created_at: Timestamp,
  updated_at: Timestamp,
});
export type Task = Static<typeof Task>;

export const TaskPatch = Type.Object(
  { description: Type.Optional(Type.String({ maxLength: 10_000 })), labels: Type.Optional(Labels) },
  {
    additionalProperties: false,
    minProperties: 1,
    examples: [{ description: "Which team a message is for." }],
  },
);
export type TaskPatch = Static<typeof TaskPatch>;

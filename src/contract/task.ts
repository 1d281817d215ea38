import { type Static, Type } from "typebox";
import { Dictionary, Id, LabelName, Timestamp, Version } from "./common.ts";

export const TaskType = Type.Enum(["classification", "generation"]);
export type TaskType = Static<typeof TaskType>;

const Verbalizer = Type.String({ minLength: 1, maxLength: 512 });

const Texts = Type.Union([Verbalizer, Type.Array(Verbalizer, { minItems: 1, maxItems: 64 })]);

export const MOST_LABELS = 1024;

/** The texts that stand for labels, spelled out; labels that are left out have those of their task. */
export const Verbalizers = Dictionary(Texts, {
  minProperties: 1,
  maxProperties: MOST_LABELS,
  propertyNames: LabelName,
});
export type Verbalizers = Static<typeof Verbalizers>;

/** Names alone, whose verbalizers follow from them, or each label with its verbalizer(s) spelled out. */
export const Labels = Type.Union([
  Type.Array(LabelName, { minItems: 2, maxItems: MOST_LABELS }),
  Dictionary(Texts, { minProperties: 2, maxProperties: MOST_LABELS, propertyNames: LabelName }),
]);
export type Labels = Static<typeof Labels>;

export const Weight = Type.Number({ minimum: 0, maximum: 1e6 });

/** How an ensemble's members come to one answer (Lester et al. 2021, section 6). */
export const Vote = Type.Enum(["mean", "majority", "weighted"]);
export type Vote = Static<typeof Vote>;

/** One prompt, or several that vote. */
export const Contender = Type.Union([
  Version,
  Type.Object(
    {
      ensemble: Type.Array(Version, { minItems: 2, maxItems: 32 }),
      vote: Type.Optional(Vote),
      weights: Type.Optional(Type.Array(Weight, { minItems: 2, maxItems: 32 })),
    },
    { additionalProperties: false },
  ),
]);
export type Contender = Static<typeof Contender>;

/** What answers: one prompt, several that vote, or several that share the traffic. */
const Answering = {
  prompt: Type.Optional(Version),
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

/** A candidate that answers a share of the inputs too, and is never seen in a reply. */
const Shadow = Type.Object(
  { prompt: Version, share: Type.Number({ minimum: 0, maximum: 1 }) },
  { additionalProperties: false },
);

/**
 * The active record. Fitted numbers live here, since prompts are immutable:
 * `temperature` divides label scores (natural log), `bias` is added to them, `unsure_below` turns a low top score into no label,
 * `agreement_below` a label that too few of an ensemble's members would give.
 */
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
  { additionalProperties: false },
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
  revision: Type.Integer(),
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
  labels: Type.Union([Labels, Type.Null()]),
  description: Type.String(),
  active: Type.Union([Active, Type.Null()]),
  revision: Type.Integer(),
  active_revision: Type.Integer(),
  prompts: Type.Integer({ description: "How many prompt versions the task has." }),
  created_at: Timestamp,
  updated_at: Timestamp,
});
export type Task = Static<typeof Task>;

export const TaskPatch = Type.Object(
  { description: Type.Optional(Type.String({ maxLength: 10_000 })), labels: Type.Optional(Labels) },
  { additionalProperties: false, minProperties: 1 },
);
export type TaskPatch = Static<typeof TaskPatch>;

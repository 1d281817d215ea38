import { type Static, Type } from "typebox";
import { Dictionary, Id, PromptRef, Version } from "./common.ts";
import { Examples, Validation } from "./dataset.ts";
import { Input } from "./infer.ts";
import { Vote } from "./task.ts";

export const TrainMethod = Type.Enum(["prefix", "soft"]);
export type TrainMethod = Static<typeof TrainMethod>;

export const Init = Type.Union(
  [
    Type.Object({ text: Type.String({ minLength: 1, maxLength: 100_000 }) }, { additionalProperties: false }),
    Type.Object({ prompt: PromptRef }, { additionalProperties: false }),
    Type.Enum(["examples", "labels", "vocabulary", "random", "donor"]),
  ],
  {
    description:
      "Where the trained positions begin: a text, another prompt, examples (worked ones in the template's words; the default), labels (their words), vocabulary (tokens by chance), random, or donor (what POST /tasks/:id/donors finds best).",
  },
);
export type Init = Static<typeof Init>;

export const Metric = Type.Enum(["accuracy", "macro_f1", "loss"], {
  description: "What decides between prompts: accuracy by default, the loss for texts.",
});
export type Metric = Static<typeof Metric>;

/** What decides a run, besides its data; every member has a default (src/training/plan.ts). */
const knobs = {
  template: Type.Optional(
    Type.String({
      minLength: 1,
      description:
        "Where the task's active prompt is not the one to start from. A prefix takes the place of the words before the first field; soft slots stand where the template has them, or take that place too.",
    }),
  ),
  init: Type.Optional(Init),
  length: Type.Optional(
    Type.Integer({
      minimum: 1,
      maximum: 1024,
      description:
        "Trained positions; by default as many as the start has, from 16 to 64, or all of another prompt's; 32 to distil.",
    }),
  ),
  steps: Type.Optional(
    Type.Integer({
      minimum: 1,
      maximum: 100_000,
      description: "By default as the examples, and labels, need.",
    }),
  ),
  batch_size: Type.Optional(
    Type.Integer({
      minimum: 1,
      maximum: 1024,
      description: "Examples of a step; 16 by default, fewer long ones.",
    }),
  ),
  learning_rate: Type.Optional(
    Type.Number({
      exclusiveMinimum: 0,
      maximum: 100,
      description:
        "Of what each trained tensor is at the start, by its root mean square. By default 0.02 for a prefix, 0.01 where few examples are seen often, 0.1 for virtual tokens.",
    }),
  ),
  optimizer: Type.Optional(Type.Enum(["adamw", "adafactor"], { description: "adamw by default." })),
  warmup: Type.Optional(
    Type.Integer({
      minimum: 0,
      maximum: 100_000,
      description: "Steps; a tenth of all, at most 20, by default.",
    }),
  ),
  weight_decay: Type.Optional(
    Type.Number({
      minimum: 0,
      maximum: 10,
      description:
        "A step takes its learning rate times this of every parameter off it (AdamW); 0 by default.",
    }),
  ),
  clip: Type.Optional(
    Type.Number({
      exclusiveMinimum: 0,
      maximum: 1e6,
      description: "Largest norm of a gradient; 1 by default.",
    }),
  ),
  label_smoothing: Type.Optional(
    Type.Number({ minimum: 0, exclusiveMaximum: 1, description: "0 by default (Szegedy et al. 2016)." }),
  ),
  class_weights: Type.Optional(
    Type.Union([Type.Enum(["balanced"]), Dictionary(Type.Number({ exclusiveMinimum: 0, maximum: 1e6 }))], {
      description:
        "What each label's examples count; balanced: all labels the same. By default all examples do.",
    }),
  ),
  max_tokens: Type.Optional(
    Type.Integer({
      minimum: 1,
      maximum: 100_000,
      description:
        "Of one example, without what stands before its first field; longer ones are refused; 1024 by default.",
    }),
  ),
  metric: Type.Optional(Metric),
  patience: Type.Optional(
    Type.Integer({
      minimum: 1,
      maximum: 1000,
      description:
        "Looks at validation in a row without a gain after which training stops. There are four, one behind each quarter of the steps; with 4, the default, training never stops early.",
    }),
  ),
  seed: Type.Optional(
    Type.Integer({
      minimum: 0,
      maximum: 2 ** 31 - 1,
      description: "Of the start, the order and the split; 0 by default.",
    }),
  ),
  precision: Type.Optional(
    Type.Enum(["auto", "fp32", "int8"], {
      description: "auto, the default, is int8 where it learns as well here, and is faster (GET /backbone).",
    }),
  ),
  checkpoint_seconds: Type.Optional(
    Type.Number({ minimum: 1, maximum: 3600, description: "Between two checkpoints; 30 by default." }),
  ),
};

const Members = Type.Integer({ minimum: 2, maximum: 16 });

export const Ensemble = Type.Union(
  [
    Members,
    Type.Object(
      {
        members: Members,
        methods: Type.Optional(Type.Array(TrainMethod, { minItems: 1, maxItems: 16 })),
        inits: Type.Optional(Type.Array(Init, { minItems: 1, maxItems: 16 })),
        vote: Type.Optional(Vote),
      },
      { additionalProperties: false },
    ),
  ],
  {
    description:
      "So many prompts that answer together: of seeds that follow one another, and in turn of the methods and starts.",
  },
);
export type Ensemble = Static<typeof Ensemble>;

export const Teacher = Type.Union(
  [
    Version,
    Type.Object(
      { text: Type.String({ minLength: 1, maxLength: 1_000_000 }) },
      { additionalProperties: false },
    ),
  ],
  {
    description:
      "Whose answers a distillation learns: a version's, by default the active one's; or those to a text that stands before the active one's words.",
  },
);
export type Teacher = Static<typeof Teacher>;

/** What a distilled prefix came to, on validation inputs. */
export const Distillation = Type.Object({
  agreement: Type.Union([Type.Number(), Type.Null()], {
    description: "The share of the teacher's labels; null for texts.",
  }),
  teacher_length: Type.Integer({ description: "Positions before the first field." }),
  length: Type.Integer(),
  tokens_saved: Type.Integer(),
  speed: Type.Number({ description: "Answers a second over the teacher's, both prompts cached." }),
});
export type Distillation = Static<typeof Distillation>;

export const Activate = Type.Union([Type.Boolean(), Type.Enum(["if_better"])], {
  description:
    "Whether what was made answers from then on: true, false (the default), or if_better beyond chance.",
});
export type Activate = Static<typeof Activate>;

export const TrainRequest = Type.Object(
  {
    method: Type.Optional(
      Type.Union([TrainMethod, Type.Enum(["distill"])], {
        description:
          "prefix: keys and values of every layer (the default); soft: virtual tokens; distill: a prefix that answers as a teacher does, and is shorter.",
      }),
    ),
    teacher: Type.Optional(Teacher),
    inputs: Type.Optional(
      Type.Array(Input, {
        minItems: 1,
        maxItems: 1_000_000,
        description: "Of a distillation, in place of examples: the teacher answers them.",
      }),
    ),
    examples: Type.Optional(
      Type.With(Examples, { description: "What is learnt. Send these, or the id of a data set." }),
    ),
    dataset: Type.Optional(Type.With(Id, { description: "The id of a data set, in place of examples." })),
    validation: Type.Optional(Validation),
    ...knobs,
    on: Type.Optional(
      Type.Union([PromptRef, Type.Null()], {
        description:
          "A prompt of any task that the new one is stacked on: what it puts before its first field stands before what is trained, and stays as it is. By default that of the prompt it starts from; null is none.",
      }),
    ),
    ensemble: Type.Optional(Ensemble),
    activate: Type.Optional(Activate),
  },
  { additionalProperties: false, examples: [{ dataset: "reviews" }] },
);
export type TrainRequest = Static<typeof TrainRequest>;

/** A request without its data, as a job keeps it. */
export const TrainSettingsRequest = Type.Object({ method: Type.Optional(TrainMethod), ...knobs });
export type TrainSettingsRequest = Static<typeof TrainSettingsRequest>;

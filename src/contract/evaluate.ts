import { type Static, Type } from "typebox";
import { Dictionary, Id } from "./common.ts";
import { Examples } from "./dataset.ts";
import { Input } from "./infer.ts";
import { Contender } from "./task.ts";

/** What decides a report, besides its data. */
const knobs = {
  max_tokens: Type.Optional(
    Type.Integer({ minimum: 1, maximum: 8192, description: "Of a generated text; 128 by default." }),
  ),
  json_schema: Type.Optional(
    Dictionary(Type.Unknown(), { description: "Texts are JSON that satisfies it." }),
  ),
  calibrate: Type.Optional(
    Type.Union([Type.Boolean(), Type.Enum(["store"])], {
      description:
        "Fits the temperature with which probabilities mean what they say; `store` puts it into the active record, where that is what was evaluated and the log loss is lower with it beyond chance (p < 0.05); a split has several, and is refused. The result's `stored` tells whether it was.",
    }),
  ),
  differing: Type.Optional(
    Type.Integer({
      minimum: 0,
      maximum: 1000,
      description: "Examples listed on which prompts differ, or the one prompt is wrong; 20 by default.",
    }),
  ),
  seed: Type.Optional(Type.Integer({ minimum: 0, maximum: 4294967295, description: "Of the bootstrap." })),
};
const Settings = Type.Object(knobs);
export type EvaluateSettings = Static<typeof Settings>;

export const EvaluateRequest = Type.Object(
  {
    prompts: Type.Optional(
      Type.Array(Type.Union([Contender, Type.Enum(["active"])]), {
        minItems: 1,
        maxItems: 32,
        description:
          "All of them on the same examples: versions and ensembles by themselves; active is what answers now, with its biases, temperature and thresholds. By default that alone.",
      }),
    ),
    examples: Type.Optional(Examples),
    dataset: Type.Optional(Id),
    ...knobs,
  },
  { additionalProperties: false, examples: [{ dataset: "reviews" }] },
);
export type EvaluateRequest = Static<typeof EvaluateRequest>;

const Maybe = Type.Union([Type.Number(), Type.Null()]);

/** How a trained ensemble does on validation, by the metric that it was trained for. */
export const EnsembleReport = Type.Object({
  members: Type.Array(Type.Number()),
  votes: Type.Object({ mean: Type.Number(), majority: Type.Number(), weighted: Type.Number() }),
  weights: Type.Array(Type.Number(), { description: "Fitted to validation; they sum to 1." }),
  agreement: Type.Number({ description: "Of the members with the answer that all of them come to." }),
});
export type EnsembleReport = Static<typeof EnsembleReport>;

/** A share of 1 or a score, with its 95 % interval. */
export const Estimate = Type.Object({ value: Type.Number(), low: Type.Number(), high: Type.Number() });
export type Estimate = Static<typeof Estimate>;

export const LabelReport = Type.Object({
  label: Type.String(),
  precision: Maybe,
  recall: Maybe,
  f1: Maybe,
  support: Type.Integer({ description: "Examples that have the label." }),
});
export type LabelReport = Static<typeof LabelReport>;

const Calibrated = Type.Object({ log_loss: Type.Number(), expected_calibration_error: Type.Number() });

export const ClassifierReport = Type.Object({
  accuracy: Estimate,
  macro_f1: Type.Number(),
  log_loss: Type.Number({ description: "Mean -log P(label), natural log." }),
  expected_calibration_error: Type.Number({ description: "15 bins (Guo et al. 2017)." }),
  unsure: Type.Optional(
    Type.Object({
      unsure_below: Type.Optional(Type.Number()),
      agreement_below: Type.Optional(Type.Number()),
      share: Type.Number({ description: "Of the examples: no label is given." }),
      accuracy: Maybe,
    }),
  ),
  agreement: Type.Optional(
    Type.Number({ description: "Of an ensemble's members with its answer, on average." }),
  ),
  weights: Type.Optional(
    Type.Array(Type.Number(), {
      description:
        "Fitted, for a weighted vote that came without; the scores are those of weights from one half of the examples on the other.",
    }),
  ),
  calibration: Type.Optional(
    Type.Object({
      temperature: Type.Number(),
      after: Calibrated,
      p_value: Type.Number({
        description: "That the examples are no likelier with it; each input counts once.",
      }),
    }),
  ),
  labels: Type.Array(LabelReport),
  confusion: Type.Array(
    Type.Object({ wanted: Type.String(), given: Type.String(), examples: Type.Integer() }),
  ),
});
export type ClassifierReport = Static<typeof ClassifierReport>;

export const GeneratorReport = Type.Object({
  exact_match: Estimate,
  rouge_l: Estimate,
  bleu: Type.Number({ description: "0 to 100, as sacrebleu's default." }),
  perplexity: Type.Number({
    description:
      "Of the references, with or without a space before them: exp of the mean -log P of a token, EOS among them.",
  }),
  references: Type.Integer(),
});
export type GeneratorReport = Static<typeof GeneratorReport>;

export const PromptReport = Type.Intersect([
  Type.Object({ name: Type.String(), prompt: Contender }),
  Type.Union([ClassifierReport, GeneratorReport]),
]);
export type PromptReport = { name: string; prompt: Contender } & (ClassifierReport | GeneratorReport);

/** Two prompts on the same examples: the second one's score less the first one's. */
export const Comparison = Type.Object({
  first: Type.String(),
  second: Type.String(),
  metric: Type.Enum(["accuracy", "bleu", "log_loss"]),
  difference: Estimate,
  p_value: Type.Number(),
  test: Type.Enum(["mcnemar", "bootstrap"]),
});
export type Comparison = Static<typeof Comparison>;

export const Difference = Type.Object({
  line: Type.Integer(),
  input: Input,
  wanted: Type.Array(Type.String()),
  given: Dictionary(Type.String(), { description: "By the prompt's name." }),
});
export type Difference = Static<typeof Difference>;

export const LeftOut = Type.Object({ name: Type.String(), prompt: Contender, reason: Type.String() });
export type LeftOut = Static<typeof LeftOut>;

export const EvaluationReport = Type.Object({
  examples: Type.Integer(),
  prompts: Type.Array(PromptReport),
  comparisons: Type.Array(Comparison),
  differing: Type.Integer({ description: "Examples on which answers differ, or the one prompt's is wrong." }),
  differences: Type.Array(Difference),
  left_out: Type.Array(LeftOut, { description: "What could not answer every example." }),
});
export interface EvaluationReport {
  examples: number;
  prompts: PromptReport[];
  comparisons: Comparison[];
  differing: number;
  differences: Difference[];
  left_out: LeftOut[];
}

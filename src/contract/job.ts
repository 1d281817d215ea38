import { type Static, Type } from "typebox";
import { Id, ProblemDocument, Timestamp, Version } from "./common.ts";

export const JobKind = Type.Enum(["train", "evaluate", "search", "donors"]);
export type JobKind = Static<typeof JobKind>;

export const JobState = Type.Enum(["queued", "running", "succeeded", "failed", "cancelled"]);
export type JobState = Static<typeof JobState>;

const measure = (description: string) => Type.Union([Type.Number(), Type.Null()], { description });

export const JobProgress = Type.Object({
  step: Type.Integer({
    minimum: 0,
    description: "Done so far: steps of a training, answers of an evaluation or a search.",
  }),
  steps: Type.Integer({ minimum: 0, description: "So many there will be, as far as is known." }),
  loss: measure("Of the last training step; null where nothing is trained."),
  examples_per_second: measure("Over the last steps; null before there are two."),
  eta_seconds: measure("Until the last step, at that pace."),
  validation: measure("By the metric, at the last look at the validation examples; null before the first."),
});
export type JobProgress = Static<typeof JobProgress>;

/** What a finished job leaves: new versions and their validation, or the report of an evaluation or a search. */
export const JobResult = Type.Object(
  {
    versions: Type.Optional(Type.Array(Version, { description: "Those that the job made." })),
    validation: Type.Optional(
      Type.Object({
        new: measure("Of what the job made, by the metric."),
        active: measure("Of what was active; null where both can't be compared."),
        p_value: measure("That a difference like this is chance; null where nothing was compared."),
      }),
    ),
    activated: Type.Optional(Type.Boolean({ description: "Whether the job let it answer." })),
  },
  {
    additionalProperties: true,
    description:
      "Of kind evaluate an EvaluationReport, of search a SearchReport, of donors a DonorsReport; of train what is listed here.",
  },
);
export type JobResult = Static<typeof JobResult> & Readonly<Record<string, unknown>>;

export const JobLine = Type.Object({
  revision: Type.Integer({ description: "Of the job's record, that brought the line." }),
  at: Timestamp,
  text: Type.String(),
});
export type JobLine = Static<typeof JobLine>;

export const Job = Type.Object({
  id: Id,
  task: Id,
  kind: JobKind,
  state: JobState,
  progress: Type.Union([JobProgress, Type.Null()], { description: "Null before the first step." }),
  result: Type.Union([JobResult, Type.Null()], { description: "Null unless it succeeded." }),
  error: Type.Union([ProblemDocument, Type.Null()], { description: "Null unless it failed." }),
  log: Type.Array(JobLine, { description: "The last lines for people." }),
  created_at: Timestamp,
  started_at: Type.Union([Timestamp, Type.Null()]),
  ended_at: Type.Union([Timestamp, Type.Null()]),
});
export type Job = Static<typeof Job>;

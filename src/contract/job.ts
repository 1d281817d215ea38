import { type Static, Type } from "typebox";
import { Id, ProblemDocument, Timestamp, Version } from "./common.ts";

export const JobKind = Type.Enum(["train", "evaluate", "search", "donors", "import"]);
export type JobKind = Static<typeof JobKind>;

export const JobState = Type.Enum(["queued", "running", "succeeded", "failed", "cancelled"]);
export type JobState = Static<typeof JobState>;

const Measure = Type.Union([Type.Number(), Type.Null()]);

export const JobProgress = Type.Object({
  step: Type.Integer({ minimum: 0 }),
  steps: Type.Integer({ minimum: 0 }),
  loss: Measure,
  examples_per_second: Measure,
  eta_seconds: Measure,
  validation: Measure,
});
export type JobProgress = Static<typeof JobProgress>;

/** What a finished job leaves: new versions and their validation, or the report of an evaluation or a search. */
export const JobResult = Type.Object(
  {
    versions: Type.Optional(Type.Array(Version)),
    validation: Type.Optional(Type.Object({ new: Measure, active: Measure, p_value: Measure })),
    activated: Type.Optional(Type.Boolean()),
  },
  {
    additionalProperties: true,
    description:
      "Of kind evaluate an EvaluationReport, of search a SearchReport, of donors a DonorsReport; of train what is listed here.",
  },
);
export type JobResult = Static<typeof JobResult> & Readonly<Record<string, unknown>>;

/** A line, with the record's revision that brought it. */
export const JobLine = Type.Object({ revision: Type.Integer(), at: Timestamp, text: Type.String() });
export type JobLine = Static<typeof JobLine>;

export const Job = Type.Object({
  id: Id,
  task: Id,
  kind: JobKind,
  state: JobState,
  progress: Type.Union([JobProgress, Type.Null()]),
  result: Type.Union([JobResult, Type.Null()]),
  error: Type.Union([ProblemDocument, Type.Null()]),
  log: Type.Array(JobLine, { description: "The last lines for people." }),
  created_at: Timestamp,
  started_at: Type.Union([Timestamp, Type.Null()]),
  ended_at: Type.Union([Timestamp, Type.Null()]),
});
export type Job = Static<typeof Job>;

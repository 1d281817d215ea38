/** What a run that was stopped goes on from. */
import { isDeepStrictEqual } from "node:util";
import { deserialize, serialize } from "node:v8";
import type { Init } from "../contract/train.ts";
import { labelsOf } from "./check.ts";
import type { TeacherAnswer } from "./distil.ts";
import type { Judged } from "./evaluation/metrics.ts";
import type { TrainJob } from "./job.ts";
import type { Look } from "./progress.ts";
import type { TrainerState } from "./trainer.ts";

/** A checkpoint of another format is of an earlier release, and can't be gone on from. */
const FORMAT = 4;

/** What a training run leaves from time to time, to go on from. */
export interface Checkpoint {
  format: typeof FORMAT;
  /** The place in an ensemble. */
  member: number;
  /** The task's, whose order a teacher's answers have. */
  labels: string[];
  /** The variant that computes gradients, once there was a step. */
  learning?: TrainJob["learning"];
  /** The answers of a distillation's teacher. */
  answers?: TeacherAnswer[] | null;
  /** What a search for a donor came to. */
  start?: Init | null;
  /** Null before the first step. */
  trainer: TrainerState | null;
  /** The best score that a look found. */
  best: { step: number; score: number } | null;
  /** What the run would end with. */
  kept: { step: number; parameters: Float32Array[]; judged: Judged[] } | null;
  looks: Look[];
  losses: number[];
  /** How long the run has taken so far. */
  milliseconds: number;
}

/** The state of a run before its first step. */
const unbegun = { trainer: null, best: null, kept: null, looks: [], losses: [], milliseconds: 0 };

/** Bytes of a job's checkpoint: what is given, and of the rest what holds before the first step. */
export const written = (
  { member, task }: Pick<TrainJob, "member" | "task">,
  held: Partial<Checkpoint>,
): Uint8Array =>
  serialize({ ...unbegun, format: FORMAT, member, labels: labelsOf(task), ...held } satisfies Checkpoint);

/** What to go on from; null if the job's last checkpoint is of the member before, of an earlier release, or of other labels. */
export function checkpointOf({ checkpoint, member, task }: TrainJob): Checkpoint | null {
  const left = checkpoint && (deserialize(checkpoint) as Checkpoint);
  const ours = left && left.format === FORMAT && left.member === member;
  return ours && isDeepStrictEqual(left.labels, labelsOf(task)) ? left : null;
}

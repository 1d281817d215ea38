/** What the server and a trainer process say to each other, over Node's IPC with structured clones. */
import type { EvaluationReport } from "../contract/evaluate.ts";
import type { DonorsReport } from "../contract/transfer.ts";
import type { Problem } from "../errors.ts";
import type { DonorsJob } from "./donors.ts";
import type { EnsembleJob, EnsembleOutcome } from "./evaluation/ensemble.ts";
import type { EvaluateJob } from "./evaluation/report.ts";
import type { TrainJob, TrainOutcome, TrainProgress } from "./job.ts";
import type { SearchJob, SearchOutcome } from "./search/search.ts";

export interface TrainerPlace {
  /** A catalogue name, `owner/name` of the hub, or a path. */
  backbone: string;
  /** Holds `backbones/` and `compiled/`. */
  data: string;
  runtime: "onnx" | "tfjs";
  threads: number;
  precision: "fp32" | "int8";
}

/** What a trainer can be asked for, and what it then leaves. */
export interface Works {
  train: { job: TrainJob; outcome: TrainOutcome };
  evaluate: { job: EvaluateJob; outcome: EvaluationReport };
  search: { job: SearchJob; outcome: SearchOutcome };
  donors: { job: DonorsJob & Pick<TrainJob, "examples">; outcome: DonorsReport };
  combine: { job: EnsembleJob; outcome: EnsembleOutcome };
}
export type WorkKind = keyof Works;
export type Work = { [Kind in WorkKind]: { kind: Kind; job: Works[Kind]["job"] } }[WorkKind];

export type ToTrainer =
  | { type: "start"; work: Work; place: TrainerPlace }
  /** Whether requests wait: the trainer then lets them go first. */
  | { type: "busy"; busy: boolean }
  /** The last checkpoint is durable. */
  | { type: "saved" };

export type FromTrainer =
  | { type: "progress"; progress: TrainProgress }
  | { type: "log"; text: string }
  | { type: "checkpoint"; bytes: Uint8Array }
  | { type: "done"; outcome: Works[WorkKind]["outcome"] }
  | { type: "problem"; problem: Problem; cause?: string };

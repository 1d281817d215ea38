/** What the server and a trainer process say to each other, over Node's IPC with structured clones. */
import type { Problem } from "../errors.ts";
import type { TrainJob, TrainOutcome, TrainProgress } from "./job.ts";

export interface TrainerPlace {
  /** A catalogue name, `owner/name` of the hub, or a path. */
  backbone: string;
  /** Holds `backbones/` and `compiled/`. */
  data: string;
  mirror?: string;
  runtime: "onnx" | "tfjs";
  threads: number;
  precision: "fp32" | "int8";
}

export type ToTrainer =
  | { type: "start"; job: TrainJob; place: TrainerPlace }
  /** Whether requests wait: the trainer then lets them go first. */
  | { type: "busy"; busy: boolean }
  /** The last checkpoint is durable. */
  | { type: "saved" };

export type FromTrainer =
  | { type: "progress"; progress: TrainProgress }
  | { type: "log"; text: string }
  | { type: "checkpoint"; bytes: Uint8Array }
  | { type: "done"; outcome: TrainOutcome }
  | { type: "problem"; problem: Problem; cause?: string };

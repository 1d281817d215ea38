/** What a training run is given, says while it runs, and leaves. All of it can be sent between processes. */

import type { PromptKind } from "../contract/prompt.ts";
import type { Active, Task, Verbalizers } from "../contract/task.ts";
import type { Distillation, TrainSettingsRequest } from "../contract/train.ts";
import type { PromptContent } from "../engine/engine.ts";
import type { Problem } from "../errors.ts";

/** A prompt with the texts that stand for labels with it alone. */
export interface TaskPrompt extends PromptContent {
  verbalizers?: Verbalizers;
}

/** What an active record adds to a prompt's own scores. */
export type Fitted = Pick<Active, "bias" | "temperature">;

/** What answers now: one prompt, or an ensemble's members in its order. */
export interface ActivePrompts {
  prompts: readonly TaskPrompt[];
  active: Active;
}

/** A prompt that another one may start from. */
export interface Donor {
  task: string;
  version: number;
  kind: PromptKind;
  content: PromptContent;
}

export interface TrainJob {
  task: Pick<Task, "id" | "type" | "labels" | "description">;
  request: TrainSettingsRequest;
  /** To start from: the request's, or the active prompt's. */
  template: string;
  /** Those of the prompt that the template came from; the new prompt gets them too. */
  verbalizers: Verbalizers | null;
  /** What the new prompt is stacked on, as `platform` writes it; null is nothing. */
  base: Uint8Array | null;
  /** The prompt that `init` names. */
  initial: PromptContent | null;
  /** The prompts to choose from if `init` asks for a donor. */
  donors?: readonly Donor[];
  /** The prompt whose answers are learnt instead of the examples' own, with the numbers that were fitted to it. */
  teacher: (TaskPrompt & { fitted?: Fitted }) | null;
  /** As `writeExamples` writes them. */
  examples: Uint8Array;
  /** A share of the examples, or examples of their own. */
  validation: number | Uint8Array;
  /** The seed that draws that share: the members of an ensemble have it in common. */
  splitSeed: number;
  /** Its place in an ensemble, from 0. */
  member: number;
  /** The variant that computes gradients; what judges is the one that serves. By default they are the same. */
  learning?: "fp32" | "int8";
  /** What the new prompt is compared with if it is to be activated only if better. */
  active: ActivePrompts | null;
  /** Where a run that stopped goes on. */
  checkpoint: Uint8Array | null;
  /** Seconds between checkpoints. */
  checkpointSeconds: number;
}

export interface TrainProgress {
  step: number;
  steps: number;
  loss: number | null;
  examples_per_second: number | null;
  eta_seconds: number | null;
  /** The metric on validation, of the last look at it. */
  validation: number | null;
}

export interface TrainOutcome {
  /** The project's own prompt file. */
  file: Uint8Array;
  template: string;
  /** Everything that reproduces the run, with the data's digests. */
  recipe: object;
  metrics: object;
  validation: { new: number; active: number | null; p_value: number | null };
  /** Whether the new prompt is better than the active one beyond chance (p < 0.05). */
  better: boolean;
  /** Where validation is too small to tell (evaluation/compare.ts). */
  few: { examples: number; least: number } | null;
  /** How far a prefix agrees with the teacher that it learnt from. */
  distillation: Distillation | null;
  /** Why the run ended early, at numbers that are not finite: the prompt is then the best that was found before. */
  failure: Problem | null;
}

export interface TrainHooks {
  progress(progress: TrainProgress): void;
  /** A line for people. */
  log(text: string): void;
  /** Everything that `TrainJob.checkpoint` needs. */
  checkpoint(bytes: Uint8Array): Promise<void>;
  /** Awaited between micro-batches: resolves when the machine is free, throws when the job is cancelled. */
  pause(): Promise<void>;
}

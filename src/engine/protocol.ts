/** What the server's thread and the engine's worker say to each other. Everything survives `postMessage`. */
import type { BackboneReport } from "../contract/backbone.ts";
import type { Problem } from "../errors.ts";
import type { FieldValues } from "../prompt/fields.ts";
import type { VerbalizedLabel } from "../prompt/verbalizer.ts";
import type { EngineRequest, PromptContent, PromptDigest } from "./engine.ts";
import type { CoreSettings } from "./open.ts";

export interface WorkerSettings extends CoreSettings {
  name: string;
}

/** Calls that have one answer; `id` pairs them. */
export type Call =
  /** `stream`: whether tokens are wanted as they come; a message each would wake the server's thread for nothing. */
  | { call: "infer"; request: EngineRequest; deadline: number; background: boolean; stream: boolean }
  | { call: "inspect"; content: PromptContent }
  | { call: "prefix"; content: PromptContent }
  | { call: "labels"; labels: readonly VerbalizedLabel[] }
  | { call: "nearest"; content: PromptContent; count: number }
  | { call: "attention"; content: PromptContent; inputs: readonly (string | FieldValues)[] }
  | { call: "statistics" };

export type ToWorker =
  | ({ type: "call"; id: number } & Call)
  | { type: "cancel"; id: number }
  /** The answer to `load`. */
  | { type: "prompt"; id: number; content: PromptContent }
  | { type: "no-prompt"; id: number; problem: Problem }
  | { type: "close" };

export type FromWorker =
  | { type: "phase"; phase: string; done: number | null }
  | { type: "ready"; report: BackboneReport }
  | { type: "failed"; problem: Problem }
  | { type: "answer"; id: number; answer: unknown }
  | { type: "problem"; id: number; problem: Problem; cause?: string }
  | { type: "token"; id: number; token: { index: number; text: string; logprob?: number } }
  /** The worker needs a prompt that its cache does not hold. */
  | { type: "load"; id: number; digest: PromptDigest };

/**
 * What serving offers to the rest of the program. The engine owns the backbone, the batches and the caches; it knows
 * nothing of tasks or the registry: a request names its prompt by digest, and a `PromptSource` supplies the prompt
 * when no cache holds it.
 */
import type { BackboneReport } from "../contract/backbone.ts";
import type { FinishReason, TargetScore, TokenLogprob, Usage } from "../contract/infer.ts";
import type { NearestReport } from "../contract/transfer.ts";
import type { FieldValues } from "../prompt/fields.ts";
import type { PrefixParameters } from "../prompt/file.ts";
import type { CompiledTemplate } from "../prompt/template.ts";
import type { VerbalizedLabel } from "../prompt/verbalizer.ts";

/** SHA-256 over kind, template and parameters: equal prompts share one KV prefix, whatever their task is called. */
export type PromptDigest = string;

export interface PromptContent {
  template: string;
  /** The prompt's own safetensors file (contract section 3), or null for a hard prompt. */
  parameters: Uint8Array | null;
}

/** Where the engine asks for a prompt that it does not hold; implemented over the registry. */
export interface PromptSource {
  load(digest: PromptDigest): Promise<PromptContent>;
}

interface RowRequest {
  prompt: PromptDigest;
  /** A text fills the template's one field; an object names them. */
  fields: string | FieldValues;
  /** Which side of too long an input is cut; without it such an input is refused. */
  truncate?: "start" | "end";
  /** Texts whose unrestricted log P is wanted. */
  targets?: readonly string[];
  /** Whether they are whole answers, whose EOS counts as it does in training (contract, section 1). */
  targetsEnd?: boolean;
}

export interface ClassifyRequest extends RowRequest {
  kind: "classify";
  labels: readonly VerbalizedLabel[];
  /** `top` searches best first and stops when the best label is certain; `all` visits every node of the trie. */
  scores: "top" | "all";
  /** Labels whose probability `top` finds too, wherever they rank. */
  settle?: readonly string[];
}

export interface GenerateRequest extends RowRequest {
  kind: "generate";
  maxTokens: number;
  temperature: number;
  topP: number;
  topK: number;
  repetitionPenalty: number;
  stop: readonly string[];
  seed?: number;
  /** How many alternatives a token reports, or null for no log-probabilities. */
  logprobs: number | null;
  jsonSchema?: object;
  choices?: readonly string[];
}

/** The likeliest token each time, until the end. */
export const greedy = {
  temperature: 0,
  topP: 1,
  topK: 0,
  repetitionPenalty: 1,
  stop: [],
  logprobs: null,
} as const satisfies Partial<GenerateRequest>;

export type EngineRequest = ClassifyRequest | GenerateRequest;

export interface ClassifyAnswer {
  kind: "classify";
  /** Natural log of P(label), best first: all of them for `all`, else those that the search settled. */
  scores: readonly { label: string; logprob: number }[];
  targets?: TargetScore[];
  usage: Usage;
}

export interface GenerateAnswer {
  kind: "generate";
  text: string;
  finishReason: FinishReason;
  logprobs?: TokenLogprob[];
  targets?: TargetScore[];
  usage: Usage;
}

export type AnswerTo<Request extends EngineRequest> = Request extends ClassifyRequest
  ? ClassifyAnswer
  : GenerateAnswer;

export interface InferOptions {
  /** Milliseconds since the epoch; later answers are a `deadline` problem. */
  deadline: number;
  /** Aborted when the client goes away: the row is freed at the next step. */
  signal?: AbortSignal;
  /** Worked on while nothing else runs or waits; a `deadline` problem too where it has to make room for what does. */
  background?: boolean;
  onToken?: (token: { index: number; text: string; logprob?: number }) => void;
}

/** What registering a prompt needs to know of the backbone. */
export interface PromptInspection {
  digest: PromptDigest;
  template: CompiledTemplate;
  /** Positions of the KV prefix. */
  length: number;
  /** Rows of each slot: of every prompt that it stands on, the lowest first, then its own. */
  softLengths: readonly (readonly number[])[];
}

export type NearestTokens = Pick<NearestReport, "word_length" | "positions">;

/** What the positions of a KV prefix are, and the attention that they get: shares of 1, averaged over heads and inputs. */
export interface PromptAttention {
  positions: { kind: "trained" | "virtual" | "word"; text?: string }[];
  /** Behind the prompt, of all inputs. */
  tokens: number;
  /** [layer][position], averaged over the tokens behind the prompt. */
  ofTokens: Float64Array[];
  /** [layer][position], of the last token alone, from which the answer is predicted. */
  ofAnswer: Float64Array[];
}

export interface EngineState {
  status: "loading" | "ready" | "failed";
  /** What it is doing while it loads, for people. */
  phase: string;
  /** 0 to 1, or null where it cannot be known. */
  progress: number | null;
  /** Why it failed. */
  error?: string;
}

export interface Engine {
  state(): EngineState;
  /** Resolves when requests can be answered; rejects when the backbone cannot be had. */
  ready(): Promise<void>;
  /** Throws `not_ready` before the backbone is there. */
  backbone(): BackboneReport;
  /**
   * Refuses a prompt that could not be served, by the codes of the error table: `bad_template`, `bad_tensor`,
   * `backbone_mismatch`, `input_too_long` when the template alone exceeds the context.
   */
  inspect(content: PromptContent): Promise<PromptInspection>;
  /**
   * The keys and values of all that stands before the first field, computed in fp32 whatever variant answers, in the
   * backbone's own basis. Throws as `inspect` does.
   */
  prefix(content: PromptContent): Promise<PrefixParameters>;
  /** Throws `duplicate_verbalizer` where two labels share a verbalizer's tokens; returns the verbalizers' token ids. */
  checkLabels(labels: readonly VerbalizedLabel[]): Promise<number[][][]>;
  infer<Request extends EngineRequest>(request: Request, options: InferOptions): Promise<AnswerTo<Request>>;
  /** The `count` words nearest to each virtual token. Throws `validation` where the prompt has none. */
  nearest(content: PromptContent, count: number): Promise<NearestTokens>;
  /** How much attention a prompt's positions get from inputs. Throws as `infer` does, and `validation` where it has none. */
  attention(content: PromptContent, inputs: readonly (string | FieldValues)[]): Promise<PromptAttention>;
  /** Calls the listener at once, and whenever it changes whether a request waits for an answer; returns how to stop. */
  watchBusy(listener: (busy: boolean) => void): () => void;
  /** Counters and gauges since start, for `/metrics` and benches. */
  statistics(): Promise<EngineStatistics>;
  /** Finishes what is running, refuses what comes, releases the backbone. */
  close(): Promise<void>;
}

export interface EngineStatistics {
  steps: number;
  rows: number;
  prefillTokens: number;
  decodeTokens: number;
  queued: number;
  running: number;
  prefixHits: number;
  prefixMisses: number;
  prefixBytes: number;
  prefixEntries: number;
  stepSeconds: number;
}

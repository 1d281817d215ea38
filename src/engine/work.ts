import { type Segment, segmentsLength } from "../backbone/feeds.ts";
import type { KvBlock } from "./kv.ts";

/**
 * One row's share of a prefill run: a trunk of new tokens, and branches that each go on from the trunk's end and do not
 * see one another (tree attention, Miao et al. 2023). A trie's nodes and target texts are branches.
 */
export interface PrefillWork {
  /** What the row attends to besides itself, in order. */
  readonly past: readonly KvBlock[];
  readonly segments: readonly Segment[];
  readonly branches: readonly (readonly number[])[];
  /** Vocabulary rows whose logits are wanted after the trunk (`end` -1) or after branch `end`. */
  readonly scored: readonly { end: number; candidates: readonly number[] }[];
  /** Tokens (counted through trunk and branches) after which logits over the whole vocabulary are wanted. */
  readonly sampled: readonly number[];
  /** Whether the trunk's keys and values are wanted. */
  readonly keep: boolean;
}

export interface PrefillResult {
  /** One logit a candidate, in the order of `scored`. */
  scores: Float32Array[];
  /** [vocabulary] each: views that are valid until the next step. */
  logits: Float32Array[];
  kept: KvBlock | null;
}

export const workLength = (work: PrefillWork): number =>
  segmentsLength(work.segments) + work.branches.reduce((sum, branch) => sum + branch.length, 0);

/** What a row of the decode pool learns from a step. */
export interface NextToken {
  /** The most probable token. */
  best: number;
  /** [vocabulary], a view that is valid until the next step; null where no row of the step asked for logits. */
  logits: Float32Array | null;
}

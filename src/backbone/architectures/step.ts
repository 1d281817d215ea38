/**
 * The signature that every architecture's graph shares: one run of it is one step of the engine, with rows of any tasks,
 * some prefilling, some decoding.
 *
 * Tokens of all rows lie packed one after another, so the linear layers never work on padding; attention alone sees
 * them as `rows × new`, through two gathers. A row attends over its own past (`past` positions, or one past that all
 * rows share) and its new tokens; the additive mask hides what a row does not have.
 */
import type { GraphBuilder } from "../../graph/builder.ts";
import type { Value } from "../../graph/graph.ts";
import type { BackboneConfig } from "../source.ts";

export interface Step {
  /** Token ids, int64 [tokens]. */
  ids: Value;
  /** Embeddings of virtual tokens, float32 [slots, hidden]. */
  virtual: Value;
  /** Which row of `virtual` stands at a token that `is_virtual`, int64 [tokens]. */
  slot: Value;
  /** bool [tokens, 1]. */
  isVirtual: Value;
  /** Positions in the sequence, the prompt counted, int64 [tokens]. */
  positions: Value;
  /** Packed index of each row's new tokens, int64 [rows, new]; padding may point anywhere. */
  pad: Value;
  /** Where each packed token lies in `rows × new`, int64 [tokens]. */
  unpad: Value;
  /** 0 or -inf, float32 [rows, 1, 1, new, past+new]. */
  mask: Value;
  /** [past, new], int64 [2]. */
  parts: Value;
  /** Keys and values of what came before, a layer each, float32 [rows or 1, kvHeads, past, headDim]. */
  past: readonly { key: Value; value: Value }[];
  /** Tokens whose next-token logits are wanted for `candidates` alone, int64 [scored]. */
  scored: Value;
  /** Vocabulary rows, int64 [candidates]. */
  candidates: Value;
  /** Tokens whose next-token logits are wanted over the whole vocabulary, int64 [sampled]. */
  sampled: Value;
}

export function stepInputs(g: GraphBuilder, config: BackboneConfig): Step {
  const { kvHeads, headDim, hiddenSize } = config;
  const cache = ["rows?", kvHeads, "past", headDim];
  return {
    ids: g.input("ids", "int64", ["tokens"]),
    virtual: g.input("virtual", "float32", ["slots", hiddenSize]),
    slot: g.input("slot", "int64", ["tokens"]),
    isVirtual: g.input("is_virtual", "bool", ["tokens", 1]),
    positions: g.input("positions", "int64", ["tokens"]),
    pad: g.input("pad", "int64", ["rows", "new"]),
    unpad: g.input("unpad", "int64", ["tokens"]),
    mask: g.input("mask", "float32", ["rows", 1, 1, "new", "past+new"]),
    parts: g.input("parts", "int64", [2]),
    past: Array.from({ length: config.layers }, (_, layer) => ({
      key: g.input(`past_key.${layer}`, "float32", cache),
      value: g.input(`past_value.${layer}`, "float32", cache),
    })),
    scored: g.input("scored", "int64", ["scored"]),
    candidates: g.input("candidates", "int64", ["candidates"]),
    sampled: g.input("sampled", "int64", ["sampled"]),
  };
}

/**
 * The gathers between packed tokens and `rows × new` undo one another, for the gradient (src/autodiff): padding is masked
 * and what it computes is dropped, so its cotangents are zero on the way in, and it has none on the way out.
 */
export const undone = { pad: { by: "unpad" }, unpad: { by: "pad", partial: true } } as const;

/**
 * The name of the value [tokens, hidden] that a layer reads; behind the last layer, of the one that the heads read.
 * Every architecture keeps to it: this is where its graph can be cut.
 */
export const hiddenBefore = (layer: number): string =>
  layer === 0 ? "embedded" : `layer.${layer - 1}/after_feed_forward`;

/** Rows of the embedding table, or virtual tokens where the step says so: float32 [tokens, hidden]. */
export function embed(g: GraphBuilder, step: Step, table: Value, label = hiddenBefore(0)): Value {
  const words = g.op("Gather", [table, step.ids], { axis: 0 }, "words");
  const virtual = g.op("Gather", [step.virtual, step.slot], { axis: 0 }, "virtual_tokens");
  return g.op("Where", [step.isVirtual, virtual, words], {}, label);
}

/** The heads of a step over the last layer's output: verbalizers' rows alone, the whole vocabulary, its best token. */
export function heads(g: GraphBuilder, step: Step, x: Value, table: Value, norm: (x: Value) => Value) {
  const at = (tokens: Value, label: string) => norm(g.op("Gather", [x, tokens], { axis: 0 }, label));
  const rows = g.op("Gather", [table, step.candidates], { axis: 0 }, "candidate_rows");
  const logits = g.op(
    "Gemm",
    [at(step.sampled, "sampled_states"), table],
    { transB: 1 },
    "vocabulary_logits",
  );
  return {
    scores: g.op(
      "FusedMatMul",
      [at(step.scored, "scored_states"), rows],
      { alpha: 1, transA: 0, transB: 1 },
      "candidate_logits",
    ),
    logits,
    best: g.op("ArgMax", [logits], { axis: -1, keepdims: 1 }, "best_token"),
  };
}

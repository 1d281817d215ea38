import type { GraphBuilder } from "../../graph/builder.ts";
import { type Dim, multiply } from "../../graph/dims.ts";
import type { Value } from "../../graph/graph.ts";
import { reshape } from "../../graph/reshape.ts";
import type { BackboneConfig } from "../source.ts";
import type { Step } from "./step.ts";

/** The name of a layer's attention weights on its past, [rows, kvHeads, group, new, past]; every architecture keeps to it. */
export const pastWeights = (layer: number): string => `layer.${layer}/parts`;

/** What queries are multiplied by, so that products with keys are scores. */
export const queryScale = ({ headDim }: Pick<BackboneConfig, "headDim">): number => headDim ** -0.5;

/**
 * Grouped-query attention (Ainslie et al. 2023) over [past | new] in primitive operators. The past is read where it
 * lies, never joined with the new keys: only the scores are.
 *
 * q [tokens, heads·headDim], times `queryScale`; k, v [tokens, kvHeads·headDim]; rotary already applied.
 * Returns the heads' outputs [tokens, heads·headDim] and the new keys and values [rows, kvHeads, new, headDim].
 */
export function attention(
  g: GraphBuilder,
  config: BackboneConfig,
  step: Step,
  layer: number,
  q: Value,
  k: Value,
  v: Value,
) {
  const { heads, kvHeads, headDim } = config;
  const group = heads / kvHeads;

  const padded = (x: Value) => g.op("Gather", [x, step.pad], { axis: 0 }, "padded");
  const split = (x: Value, label: string) => {
    const apart = g.op("Reshape", [padded(x)], { shape: ["rows", "new", kvHeads, headDim] });
    return g.op("Transpose", [apart], { perm: [0, 2, 1, 3] }, label);
  };
  const key = split(k, "key");
  const value = split(v, "value");
  const apart = g.op("Reshape", [padded(q)], { shape: ["rows", "new", kvHeads, group, headDim] });
  const query = g.op("Transpose", [apart], { perm: [0, 2, 3, 1, 4] }, "query");

  const mixed = attend(g, query, { key, value }, step.past[layer]!, step.mask, step.parts);

  const byToken = g.op("Transpose", [mixed], { perm: [0, 3, 1, 2, 4] });
  const rows = g.op("Reshape", [byToken], { shape: ["new*rows", heads * headDim] });
  return { out: g.op("Gather", [rows, step.unpad], { axis: 0 }, "attended"), key, value };
}

/**
 * Softmax over what each query may see, past and new: query [rows, kvHeads, group, queries, headDim]; keys and values
 * [rows, kvHeads, positions, headDim], the past's [rows or 1, …]; mask [rows, 1, 1, queries, past+new]; `parts`, int64,
 * their two lengths. Returns [rows, kvHeads, group, queries, headDim].
 *
 * On the past the heads of a group take a product each, and no product has a factor: where rows decode (one query), it
 * is one of a vector with a matrix, which onnxruntime computes without copying the matrix (1.4 times as fast as one
 * product of the group, 1.7 times behind 1,000 positions). On the few new positions they share one.
 */
export function attend(
  g: GraphBuilder,
  query: Value,
  now: { key: Value; value: Value },
  past: { key: Value; value: Value },
  mask: Value,
  parts: Value,
): Value {
  const [rows, kvHeads, group, queries, headDim] = query.shape as [Dim, Dim, Dim, Dim, Dim];
  const [ofPast, ofNow] = [past.key.shape[2]!, now.key.shape[2]!];
  const forEachHead = (x: Value) => reshape(g, x, [x.shape[0]!, kvHeads, 1, ofPast, headDim]);
  const together = (x: Value) => reshape(g, x, [rows, kvHeads, multiply(group, queries), x.shape.at(-1)!]);
  const apart = (x: Value) => reshape(g, x, [rows, kvHeads, group, queries, x.shape.at(-1)!], query);
  const scored = (query: Value, key: Value, label: string) =>
    g.op("FusedMatMul", [query, key], { alpha: 1, transA: 0, transB: 1 }, label);

  const onPast = scored(query, forEachHead(past.key), "scores_past");
  const onNow = apart(scored(together(query), now.key, "scores_new"));
  const scores = g.op("Concat", [onPast, onNow], { axis: 4 }, "scores");
  const masked = g.op("Add", [scores, mask], {}, "masked");
  const weights = g.op("Softmax", [masked], { axis: 4 }, "weights");
  const [toPast, toNow] = g.ops("Split", [weights, parts], { axis: 4, sizes: [ofPast, ofNow] }, "parts");
  const fromPast = g.op("MatMul", [toPast!, forEachHead(past.value)], {});
  const fromNow = apart(g.op("MatMul", [together(toNow!), now.value], {}));
  return g.op("Add", [fromPast, fromNow], {}, "mixed");
}

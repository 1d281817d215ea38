import type { GraphBuilder } from "../../graph/builder.ts";
import { multiply } from "../../graph/dims.ts";
import type { Value } from "../../graph/graph.ts";
import type { BackboneConfig } from "../source.ts";
import type { Step } from "./step.ts";

/** The mask for every query head of a group, made once for all layers: [rows, 1, group·new, past+new]. */
export function groupMask(g: GraphBuilder, { heads, kvHeads }: BackboneConfig, step: Step): Value {
  const copies = Array.from({ length: heads / kvHeads }, () => step.mask);
  return copies.length === 1 ? step.mask : g.op("Concat", copies, { axis: 2 }, "group_mask");
}

/**
 * Grouped-query attention (Ainslie et al. 2023) over [past | new] in primitive operators. The past is read where it
 * lies, never joined with the new keys: only the scores are. Query heads of one group are stacked into one matrix
 * product, which is what makes decoding (`new` = 1) cheap.
 *
 * q [tokens, heads·headDim]; k, v [tokens, kvHeads·headDim], rotary already applied.
 * Returns the heads' outputs [tokens, heads·headDim] and the new keys and values [rows, kvHeads, new, headDim].
 */
export function attention(
  g: GraphBuilder,
  config: BackboneConfig,
  step: Step,
  mask: Value,
  layer: number,
  q: Value,
  k: Value,
  v: Value,
) {
  const { heads, kvHeads, headDim } = config;
  const group = heads / kvHeads;
  const past = step.past[layer]!;

  const padded = (x: Value) => g.op("Gather", [x, step.pad], { axis: 0 }, "padded");
  const split = (x: Value, label: string) => {
    const apart = g.op("Reshape", [padded(x)], { shape: ["rows", "new", kvHeads, headDim] });
    return g.op("Transpose", [apart], { perm: [0, 2, 1, 3] }, label);
  };
  const key = split(k, "key");
  const value = split(v, "value");
  const apart = g.op("Reshape", [padded(q)], { shape: ["rows", "new", kvHeads, group, headDim] });
  const grouped = g.op("Transpose", [apart], { perm: [0, 2, 3, 1, 4] });
  const query = g.op(
    "Reshape",
    [grouped],
    { shape: ["rows", kvHeads, multiply(group, "new"), headDim] },
    "query",
  );

  const mixed = attend(g, query, { key, value }, past, mask, step.parts);

  const ungrouped = g.op("Reshape", [mixed], { shape: ["rows", kvHeads, group, "new", headDim] });
  const byToken = g.op("Transpose", [ungrouped], { perm: [0, 3, 1, 2, 4] });
  const rows = g.op("Reshape", [byToken], { shape: ["new*rows", heads * headDim] });
  return { out: g.op("Gather", [rows, step.unpad], { axis: 0 }, "attended"), key, value };
}

/**
 * Softmax over what each query may see, past and new: query [rows, kvHeads, group·queries, headDim]; keys and values
 * [rows, kvHeads, positions, headDim], the past's [rows or 1, …]; mask [rows, 1, group·queries, past+new]; `parts`, int64,
 * their two lengths. Returns [rows, kvHeads, group·queries, headDim].
 */
export function attend(
  g: GraphBuilder,
  query: Value,
  now: { key: Value; value: Value },
  past: { key: Value; value: Value },
  mask: Value,
  parts: Value,
): Value {
  const headDim = query.shape[3] as number;
  const scale = { alpha: headDim ** -0.5, transA: 0, transB: 1 } as const;
  const onPast = g.op("FusedMatMul", [query, past.key], scale, "scores_past");
  const onNow = g.op("FusedMatMul", [query, now.key], scale, "scores_new");
  const scores = g.op("Concat", [onPast, onNow], { axis: 3 }, "scores");
  const masked = g.op("Add", [scores, mask], {}, "masked");
  const weights = g.op("Softmax", [masked], { axis: 3 }, "weights");
  const sizes = [past.key.shape[2]!, now.key.shape[2]!];
  const [ofPast, ofNow] = g.ops("Split", [weights, parts], { axis: 3, sizes }, "parts");
  return g.op(
    "Add",
    [g.op("MatMul", [ofPast!, past.value], {}), g.op("MatMul", [ofNow!, now.value], {})],
    {},
    "mixed",
  );
}

/** What a run of the gradient graph holds, estimated from sizes alone. */
import type { BackboneConfig } from "../backbone/source.ts";
import type { TrainingRow } from "./rows.ts";

/**
 * What one run of the whole gradient graph may hold. A trainer holds 0.1 GB before it loads anything and 0.5 GB of mapped
 * weights; with this, what is staged has more than 1 GB left of 3.
 */
export const WHOLE_BYTES = 2 ** 30;

/**
 * Numbers that the way back needs of a token and a layer, in multiples of the layer's widths, and tensors of the
 * attention scores' size. Fitted to SmolLM2-135M behind a prefix of 128 positions: 8 rows of 40 tokens held 586 MB, one
 * of 330 held 781 MB, one of 440 held 1076 MB; the estimates are 614, 788 and 1130 MB.
 */
const WIDTHS = 6.5;
const SCORES = 1.5;
/** Tensors of the vocabulary logits' size that live together on the way to their gradient. */
export const LOGITS = 4;

/** Bytes that one run of the whole gradient graph holds for these rows, behind a prefix of `past` positions. */
export function runBytes(
  rows: readonly Pick<TrainingRow, "length" | "next">[],
  past: number,
  { layers, hiddenSize, intermediateSize, heads, vocabSize }: BackboneConfig,
): number {
  const tokens = rows.reduce((sum, { length }) => sum + length, 0);
  const width = Math.max(...rows.map(({ length }) => length));
  const states = tokens * WIDTHS * (hiddenSize + intermediateSize);
  const scores = rows.length * SCORES * heads * width * (past + width);
  const predicted = rows.reduce((sum, { next }) => sum + next.length, 0);
  return 4 * (layers * (states + scores) + predicted * LOGITS * vocabSize);
}

/**
 * A training graph cut between its layers (Chen et al. 2016, a checkpoint a layer): each part is a graph of its own,
 * forwards, and backwards as a vector-Jacobian product that computes its own forward again.
 */
import { gradient } from "../autodiff/gradient.ts";
import { hiddenBefore } from "../backbone/architectures/step.ts";
import { cut } from "../graph/cut.ts";
import type { Graph } from "../graph/graph.ts";
import type { Method } from "./graph.ts";

/** Takes a finished graph before it is loaded, to one that computes the same in another way. */
export type Rewrite = (graph: Graph) => Graph;

export interface Segments {
  /** Tokens → `hidden` [tokens, hidden]. */
  embed: Graph;
  /** `d` [tokens, hidden] → `d.virtual`; null where no virtual tokens are trained. */
  embedBack: Graph | null;
  /**
   * `hidden`, `past_key`, `past_value` → `after` [tokens, hidden]; and with the cotangent `d` of `after` → `d.hidden`,
   * and where a prefix is trained `d.past_key` and `d.past_value`.
   */
  layers: readonly { forward: Graph; back: Graph }[];
  /** `hidden` → `loss` and `d.hidden`. */
  loss: Graph;
}

/** Of a graph with output `loss` whose rows share one past. `rewrite` is applied to every part. */
export function segmentsOf(loss: Graph, method: Method, layers: number, rewrite: Rewrite): Segments {
  const embed = cut(loss, { name: "embed", inputs: {}, outputs: { hidden: hiddenBefore(0) } });
  const undo = { pad: "unpad" };
  const end = cut(loss, {
    name: "loss",
    inputs: { hidden: hiddenBefore(layers) },
    outputs: { loss: "loss" },
  });
  return {
    embed: rewrite(embed),
    embedBack:
      method === "soft" ? rewrite(gradient(embed, { of: { hidden: "d" }, wrt: ["virtual"], undo })) : null,
    layers: Array.from({ length: layers }, (_, layer) => {
      const forward = cut(loss, {
        name: "layer",
        inputs: {
          hidden: hiddenBefore(layer),
          past_key: `past_key.${layer}`,
          past_value: `past_value.${layer}`,
        },
        outputs: { after: hiddenBefore(layer + 1) },
      });
      const wrt = method === "prefix" ? ["hidden", "past_key", "past_value"] : ["hidden"];
      return {
        forward: rewrite(forward),
        back: rewrite(gradient(forward, { of: { after: "d" }, wrt, undo })),
      };
    }),
    loss: rewrite(gradient(end, { of: "loss", wrt: ["hidden"], keep: ["loss"], undo })),
  };
}

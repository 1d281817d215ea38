/**
 * A training graph cut between its layers (Chen et al. 2016, a checkpoint a layer): each part is a graph of its own,
 * forwards, and backwards as a vector-Jacobian product that computes its own forward again.
 */
import { gradient } from "../autodiff/gradient.ts";
import { hiddenBefore } from "../backbone/architectures/step.ts";
import type { BackboneConfig } from "../backbone/source.ts";
import { cut } from "../graph/cut.ts";
import type { Graph, Node } from "../graph/graph.ts";
import { specialise } from "../graph/specialise.ts";
import { type AttentionGraphs, attentionGraphs } from "./attention.ts";
import type { Method } from "./graph.ts";

/** Takes a finished graph before it is loaded, to one that computes the same in another way. */
export type Rewrite = (graph: Graph) => Graph;

export interface Segments {
  /** Tokens → `hidden` [tokens, hidden]. */
  embed: Graph;
  /** `d` [tokens, hidden] → `d.virtual`; null where no virtual tokens are trained. */
  embedBack: Graph | null;
  layers: readonly LayerParts[];
  /** Weightless, and so one for all layers. */
  attention: AttentionGraphs;
  /** `hidden` → `loss` and `d.hidden`. */
  loss: Graph;
}

/** A layer but for its attention. Queries, keys and values are those of `AttentionGraphs`. */
export interface LayerParts {
  /** `hidden` → `query`, `key`, `value`; and with their cotangents `d.query`, … → `d.hidden`. */
  project: Graph;
  projectBack: Graph;
  /** `hidden`, `mixed` → `after` [tokens, hidden]; and with its cotangent `d` → `d.hidden`, `d.mixed`. */
  finish: Graph;
  finishBack: Graph;
}

/** The segments of a graph with output `loss`, for one row at a time. `rewrite` is applied to every part. */
export function segmentsOf(graph: Graph, method: Method, config: BackboneConfig, rewrite: Rewrite): Segments {
  const loss = ofOneRow(graph);
  const embed = cut(loss, { name: "embed", inputs: {}, outputs: { hidden: hiddenBefore(0) } });
  const end = cut(loss, {
    name: "loss",
    inputs: { hidden: hiddenBefore(config.layers) },
    outputs: { loss: "loss" },
  });
  return {
    embed: rewrite(embed),
    embedBack: method === "soft" ? rewrite(gradient(embed, { of: { hidden: "d" }, wrt: ["virtual"] })) : null,
    layers: Array.from({ length: config.layers }, (_, layer) => layerParts(loss, layer, rewrite)),
    attention: attentionGraphs(config),
    loss: rewrite(gradient(end, { of: "loss", wrt: ["hidden"], keep: ["loss"] })),
  };
}

function layerParts(loss: Graph, layer: number, rewrite: Rewrite): LayerParts {
  const hidden = hiddenBefore(layer);
  const project = cut(loss, {
    name: "project",
    inputs: { hidden },
    outputs: { query: `layer.${layer}/query`, key: `key.${layer}`, value: `value.${layer}` },
  });
  const finish = cut(loss, {
    name: "finish",
    inputs: { hidden, mixed: `layer.${layer}/mixed` },
    outputs: { after: hiddenBefore(layer + 1) },
  });
  const of = { query: "d.query", key: "d.key", value: "d.value" };
  return {
    project: rewrite(project),
    projectBack: rewrite(gradient(project, { of, wrt: ["hidden"] })),
    finish: rewrite(finish),
    finishBack: rewrite(gradient(finish, { of: { after: "d" }, wrt: ["hidden", "mixed"] })),
  };
}

/** One row needs no padding: the gathers between packed tokens and `rows × new` are reshapes. */
export function ofOneRow(loss: Graph): Graph {
  const graph = specialise(loss, { "rows?": 1, rows: 1, new: "tokens" });
  const plain = (node: Node): Node => {
    if (node.op !== "Gather" || !["pad", "unpad"].includes(node.inputs[1]!.name)) return node;
    const { inputs, outputs } = node;
    return Object.freeze({
      op: "Reshape",
      inputs: inputs.slice(0, 1),
      outputs,
      attributes: { shape: outputs[0]!.shape },
    });
  };
  return Object.freeze({ ...graph, nodes: graph.nodes.map(plain) });
}

/**
 * Losses, appended to a step graph (contract, section 1). Both are means of -log P over examples, written as a sum with
 * the weights that the caller feeds, so that class weights, label smoothing and accumulation over batches need no graph
 * of their own.
 */
import { GraphBuilder } from "../graph/builder.ts";
import type { Graph, Value } from "../graph/graph.ts";

/** Instead of -∞ for what is not a candidate: 0 · ∞ is no number. */
export const EXCLUDED = -1e30;

/**
 * Classification over verbalizers: every scored position is a node of the label trie, `excluded` [scored, candidates] is
 * 0 for its children and `EXCLUDED` elsewhere, `gold` [scored, candidates] is the weight of each child (one for the gold
 * path, spread by label smoothing, 0 elsewhere). Output `loss` [1, 1].
 */
export function classificationLoss(step: Graph): Graph {
  const { g, output } = open(step);
  const scores = output("scores");
  const excluded = g.input("excluded", "float32", scores.shape);
  const gold = g.input("gold", "float32", scores.shape);
  const logP = g.op("LogSoftmax", [g.op("Add", [scores, excluded], {})], { axis: -1 }, "log_p");
  const weighted = g.op("Mul", [logP, gold], {});
  return g.finish({ loss: negativeSum(g, weighted) });
}

/**
 * Generation: log P of the output's tokens, EOS among them. `sampled` names the positions that predict them, `next`
 * [sampled, 1] their ids, `gold` [sampled, 1] the weight of each. Output `loss` [1, 1].
 */
export function generationLoss(step: Graph): Graph {
  const { g, output } = open(step);
  const logits = output("logits");
  const next = g.input("next", "int64", [logits.shape[0]!, 1]);
  const gold = g.input("gold", "float32", [logits.shape[0]!, 1]);
  const logP = g.op("LogSoftmax", [logits], { axis: -1 }, "log_p");
  const chosen = g.op("GatherElements", [logP, next], { axis: 1 }, "chosen");
  return g.finish({ loss: negativeSum(g, g.op("Mul", [chosen, gold], {})) });
}

function open(step: Graph) {
  const g = GraphBuilder.from(step);
  const output = (name: string): Value => {
    const value = step.outputs.find(each => each.name === name);
    if (!value) throw new Error(`graph ${step.name} has no output ${name}`);
    return value;
  };
  return { g, output };
}

const negativeSum = (g: GraphBuilder, x: Value): Value =>
  g.op("Mul", [g.op("ReduceSum", [x], { axes: [0, 1], keepdims: 1 }), g.number(-1)], {}, "loss_sum");

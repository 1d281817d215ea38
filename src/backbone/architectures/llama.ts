/**
 * The Llama family (Touvron et al. 2023): pre-normalisation with RMSNorm, rotary positions (Su et al. 2021), grouped-query
 * attention, a SwiGLU feed-forward, no biases. What a relative does differently is an option, set in its own file.
 */

import { GraphBuilder } from "../../graph/builder.ts";
import type { Graph, Value } from "../../graph/graph.ts";
import type { BackboneConfig } from "../source.ts";
import { attention, queryScale } from "./attention.ts";
import { rotaryTables } from "./rotary.ts";
import { embed, heads, stepInputs } from "./step.ts";

export interface LlamaOptions {
  /** Biases on queries, keys and values whatever the config says of attention's output (Qwen2). */
  qkvBias?: boolean;
  /** RMSNorm over each head of queries and keys (Qwen3). */
  headNorm?: boolean;
}

export function llama(
  config: BackboneConfig,
  { qkvBias = config.attentionBias, headNorm = false }: LlamaOptions = {},
): Graph {
  const { hiddenSize, intermediateSize, headDim, layers } = config;
  const queryWidth = config.heads * headDim;
  const keyWidth = config.kvHeads * headDim;
  const g = new GraphBuilder(config.architecture);
  const step = stepInputs(g, config);
  const turning = {
    q: rotaryTables(g, config, "query", queryScale(config)),
    k: rotaryTables(g, config, "key"),
  };
  const positions = g.op("Reshape", [step.positions], { shape: [1, "tokens"] }, "position_ids");
  const table = g.weight("embed_tokens.weight", [config.vocabSize, hiddenSize]);

  const norm = (x: Value, name: string, width = hiddenSize) =>
    g.op(
      "RMSNormalization",
      [x, g.weight(`${name}.weight`, [width])],
      { axis: -1, epsilon: config.normEpsilon },
      name.split(".").at(-1),
    );
  const linear = (x: Value, name: string, into: number, from: number, bias = false) =>
    g.op(
      "Gemm",
      [x, g.weight(`${name}.weight`, [into, from]), ...(bias ? [g.weight(`${name}.bias`, [into])] : [])],
      { transB: 1 },
      name.split(".").at(-1),
    );

  /** Rotates queries, which it scales too, or keys; Qwen3 normalises each head first. */
  const rotate = (x: Value, heads: number, which: "q" | "k", name: string) => {
    const width = heads * headDim;
    const normed = headNorm
      ? reshape(g, norm(reshape(g, x, ["tokens", heads, headDim]), name, headDim), ["tokens", width])
      : x;
    const row = reshape(g, normed, [1, "tokens", width]);
    const turned = g.op(
      "RotaryEmbedding",
      [row, turning[which].cos, turning[which].sin, positions],
      { num_heads: heads, interleaved: 0 },
      "rotary",
    );
    return reshape(g, turned, ["tokens", width]);
  };

  let x = embed(g, step, table);
  const outputs: Record<string, Value> = {};
  for (let layer = 0; layer < layers; layer++) {
    const at = (name: string) => `layers.${layer}.${name}`;
    x = g.within(`layer.${layer}`, () => {
      const attending = norm(x, at("input_layernorm"));
      const q = rotate(
        linear(attending, at("self_attn.q_proj"), queryWidth, hiddenSize, qkvBias),
        config.heads,
        "q",
        at("self_attn.q_norm"),
      );
      const k = rotate(
        linear(attending, at("self_attn.k_proj"), keyWidth, hiddenSize, qkvBias),
        config.kvHeads,
        "k",
        at("self_attn.k_norm"),
      );
      const v = linear(attending, at("self_attn.v_proj"), keyWidth, hiddenSize, qkvBias);
      const { out, key, value } = attention(g, config, step, layer, q, k, v);
      outputs[`key.${layer}`] = key;
      outputs[`value.${layer}`] = value;
      const attended = g.op(
        "Add",
        [x, linear(out, at("self_attn.o_proj"), hiddenSize, queryWidth, config.attentionBias)],
        {},
        "after_attention",
      );

      const feeding = norm(attended, at("post_attention_layernorm"));
      const gate = linear(feeding, at("mlp.gate_proj"), intermediateSize, hiddenSize, config.mlpBias);
      const up = linear(feeding, at("mlp.up_proj"), intermediateSize, hiddenSize, config.mlpBias);
      const gated = g.op(
        "Mul",
        [g.op("Mul", [gate, g.op("Sigmoid", [gate], {})], {}, "silu"), up],
        {},
        "gated",
      );
      const down = linear(gated, at("mlp.down_proj"), hiddenSize, intermediateSize, config.mlpBias);
      return g.op("Add", [attended, down], {}, "after_feed_forward");
    });
  }
  const unembedding = config.tiedEmbedding
    ? table
    : g.weight("lm_head.weight", [config.vocabSize, hiddenSize]);
  return g.finish({ ...heads(g, step, x, unembedding, value => norm(value, "norm")), ...outputs });
}

const reshape = (g: GraphBuilder, x: Value, shape: Value["shape"]) => g.op("Reshape", [x], { shape });

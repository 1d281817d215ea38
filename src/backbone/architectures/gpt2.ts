/**
 * GPT-2 (Radford et al. 2019): learned positions, pre-normalisation with LayerNorm, biases everywhere, one projection
 * for queries, keys and values, a GELU feed-forward (tanh approximation). Its weights are [in, out].
 */
import { GraphBuilder } from "../../graph/builder.ts";
import type { Graph, Value } from "../../graph/graph.ts";
import type { BackboneConfig } from "../source.ts";
import { attention, queryScale } from "./attention.ts";
import { embed, heads, hiddenBefore, stepInputs } from "./step.ts";

export function gpt2(config: BackboneConfig): Graph {
  const { hiddenSize, intermediateSize, layers } = config;
  const g = new GraphBuilder(config.architecture);
  const step = stepInputs(g, config);
  const scale = g.constant("query_scale", "float32", [1], Float32Array.of(queryScale(config)));
  const table = g.weight("wte.weight", [config.vocabSize, hiddenSize]);
  const places = g.weight("wpe.weight", [config.maxPositions, hiddenSize]);

  const norm = (x: Value, name: string) => {
    const parameters = [g.weight(`${name}.weight`, [hiddenSize]), g.weight(`${name}.bias`, [hiddenSize])];
    return g.op(
      "LayerNormalization",
      [x, ...parameters],
      { axis: -1, epsilon: config.normEpsilon },
      name.split(".").at(-1),
    );
  };
  const linear = (x: Value, name: string, from: number, into: number) =>
    g.op(
      "Gemm",
      [x, g.weight(`${name}.weight`, [from, into]), g.weight(`${name}.bias`, [into])],
      { transB: 0 },
      name.split(".").at(-1),
    );

  let x = g.op(
    "Add",
    [embed(g, step, table, "tokens_alone"), g.op("Gather", [places, step.positions], { axis: 0 })],
    {},
    hiddenBefore(0),
  );
  const outputs: Record<string, Value> = {};
  for (let layer = 0; layer < layers; layer++) {
    const at = (name: string) => `h.${layer}.${name}`;
    x = g.within(`layer.${layer}`, () => {
      const qkv = linear(norm(x, at("ln_1")), at("attn.c_attn"), hiddenSize, 3 * hiddenSize);
      const [q, k, v] = g.ops(
        "Split",
        [qkv],
        { axis: 1, sizes: [hiddenSize, hiddenSize, hiddenSize] },
        "qkv",
      );
      const scaled = g.op("Mul", [q!, scale], {});
      const { out, key, value } = attention(g, config, step, layer, scaled, k!, v!);
      outputs[`key.${layer}`] = key;
      outputs[`value.${layer}`] = value;
      const attended = g.op(
        "Add",
        [x, linear(out, at("attn.c_proj"), hiddenSize, hiddenSize)],
        {},
        "after_attention",
      );
      const wide = linear(norm(attended, at("ln_2")), at("mlp.c_fc"), hiddenSize, intermediateSize);
      const narrow = linear(
        g.op("Gelu", [wide], { approximate: "tanh" }),
        at("mlp.c_proj"),
        intermediateSize,
        hiddenSize,
      );
      return g.op("Add", [attended, narrow], {}, "after_feed_forward");
    });
  }
  const unembedding = config.tiedEmbedding
    ? table
    : g.weight("lm_head.weight", [config.vocabSize, hiddenSize]);
  return g.finish({ ...heads(g, step, x, unembedding, value => norm(value, "ln_f")), ...outputs });
}

/**
 * The tensors that an architecture has: canonical name, name in a GGUF file, shape, and how GGUF stores them. One table
 * serves both formats; `{}` is the layer's number.
 */
import type { BackboneConfig } from "./source.ts";

/**
 * What llama.cpp's converter did to a tensor: nothing, GPT-2's [in, out] matrices turned to [out, in], or the rows of
 * Llama's queries or keys interleaved for its rotary embedding.
 */
export type GgufLayout = "same" | "transposed" | "queries" | "keys";

export interface BackboneTensor {
  name: string;
  gguf: string;
  dims: readonly number[];
  layout: GgufLayout;
}

interface Row {
  name: string;
  gguf: string;
  dims: readonly number[];
  layout?: GgufLayout;
  /** Absent where false. */
  when?: boolean;
}

function llamaRows(c: BackboneConfig): Row[] {
  const h = c.hiddenSize;
  const q = c.heads * c.headDim;
  const kv = c.kvHeads * c.headDim;
  const inner = c.intermediateSize;
  const qkvBias = c.attentionBias || c.architecture === "qwen2";
  const headNorm = c.architecture === "qwen3";
  // Only the converter of Llama (and Mistral, which it treats as one) interleaves.
  const interleaved = c.architecture === "llama" || c.architecture === "mistral";
  const queries = interleaved ? "queries" : "same";
  const keys = interleaved ? "keys" : "same";
  const at = (name: string) => `layers.{}.${name}`;
  const blk = (name: string) => `blk.{}.${name}`;
  return [
    { name: "embed_tokens.weight", gguf: "token_embd.weight", dims: [c.vocabSize, h] },
    { name: "norm.weight", gguf: "output_norm.weight", dims: [h] },
    { name: "lm_head.weight", gguf: "output.weight", dims: [c.vocabSize, h], when: !c.tiedEmbedding },
    { name: at("input_layernorm.weight"), gguf: blk("attn_norm.weight"), dims: [h] },
    { name: at("self_attn.q_proj.weight"), gguf: blk("attn_q.weight"), dims: [q, h], layout: queries },
    {
      name: at("self_attn.q_proj.bias"),
      gguf: blk("attn_q.bias"),
      dims: [q],
      layout: queries,
      when: qkvBias,
    },
    { name: at("self_attn.k_proj.weight"), gguf: blk("attn_k.weight"), dims: [kv, h], layout: keys },
    { name: at("self_attn.k_proj.bias"), gguf: blk("attn_k.bias"), dims: [kv], layout: keys, when: qkvBias },
    { name: at("self_attn.v_proj.weight"), gguf: blk("attn_v.weight"), dims: [kv, h] },
    { name: at("self_attn.v_proj.bias"), gguf: blk("attn_v.bias"), dims: [kv], when: qkvBias },
    { name: at("self_attn.o_proj.weight"), gguf: blk("attn_output.weight"), dims: [h, q] },
    { name: at("self_attn.o_proj.bias"), gguf: blk("attn_output.bias"), dims: [h], when: c.attentionBias },
    {
      name: at("self_attn.q_norm.weight"),
      gguf: blk("attn_q_norm.weight"),
      dims: [c.headDim],
      when: headNorm,
    },
    {
      name: at("self_attn.k_norm.weight"),
      gguf: blk("attn_k_norm.weight"),
      dims: [c.headDim],
      when: headNorm,
    },
    { name: at("post_attention_layernorm.weight"), gguf: blk("ffn_norm.weight"), dims: [h] },
    { name: at("mlp.gate_proj.weight"), gguf: blk("ffn_gate.weight"), dims: [inner, h] },
    { name: at("mlp.gate_proj.bias"), gguf: blk("ffn_gate.bias"), dims: [inner], when: c.mlpBias },
    { name: at("mlp.up_proj.weight"), gguf: blk("ffn_up.weight"), dims: [inner, h] },
    { name: at("mlp.up_proj.bias"), gguf: blk("ffn_up.bias"), dims: [inner], when: c.mlpBias },
    { name: at("mlp.down_proj.weight"), gguf: blk("ffn_down.weight"), dims: [h, inner] },
    { name: at("mlp.down_proj.bias"), gguf: blk("ffn_down.bias"), dims: [h], when: c.mlpBias },
  ];
}

function gpt2Rows(c: BackboneConfig): Row[] {
  const h = c.hiddenSize;
  const inner = c.intermediateSize;
  const norm = (name: string, gguf: string): Row[] => [
    { name: `${name}.weight`, gguf: `${gguf}.weight`, dims: [h] },
    { name: `${name}.bias`, gguf: `${gguf}.bias`, dims: [h] },
  ];
  const linear = (name: string, gguf: string, from: number, into: number): Row[] => [
    { name: `${name}.weight`, gguf: `${gguf}.weight`, dims: [from, into], layout: "transposed" },
    { name: `${name}.bias`, gguf: `${gguf}.bias`, dims: [into] },
  ];
  return [
    { name: "wte.weight", gguf: "token_embd.weight", dims: [c.vocabSize, h] },
    { name: "wpe.weight", gguf: "position_embd.weight", dims: [c.maxPositions, h] },
    { name: "lm_head.weight", gguf: "output.weight", dims: [c.vocabSize, h], when: !c.tiedEmbedding },
    ...norm("ln_f", "output_norm"),
    ...norm("h.{}.ln_1", "blk.{}.attn_norm"),
    ...linear("h.{}.attn.c_attn", "blk.{}.attn_qkv", h, 3 * h),
    ...linear("h.{}.attn.c_proj", "blk.{}.attn_output", h, h),
    ...norm("h.{}.ln_2", "blk.{}.ffn_norm"),
    ...linear("h.{}.mlp.c_fc", "blk.{}.ffn_up", h, inner),
    ...linear("h.{}.mlp.c_proj", "blk.{}.ffn_down", inner, h),
  ];
}

/** Every tensor that a backbone of this configuration has. */
export function backboneTensors(config: BackboneConfig): BackboneTensor[] {
  const rows = config.architecture === "gpt2" ? gpt2Rows(config) : llamaRows(config);
  return rows
    .filter(({ when = true }) => when)
    .flatMap(({ name, gguf, dims, layout = "same" }) => {
      const copies = name.includes("{}") ? config.layers : 1;
      return Array.from({ length: copies }, (_, layer) => ({
        name: name.replace("{}", `${layer}`),
        gguf: gguf.replace("{}", `${layer}`),
        dims,
        layout,
      }));
    });
}

/** The weight of the logits, [vocabulary, hidden]. */
export const vocabularyOf = (config: BackboneConfig): string =>
  config.tiedEmbedding ? embeddingOf(config) : "lm_head.weight";

/** The weight whose rows are the tokens' embeddings, [vocabulary, hidden]. */
export const embeddingOf = ({ architecture }: BackboneConfig): string =>
  architecture === "gpt2" ? "wte.weight" : "embed_tokens.weight";

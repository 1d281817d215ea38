/**
 * config.json → BackboneConfig. Defaults are those of transformers' configuration classes; a setting that changes the
 * arithmetic and is not implemented is refused.
 */
import type { Json } from "./json-file.ts";
import { checkedConfig, Settings, show } from "./settings.ts";
import type { ArchitectureName, BackboneConfig, RopeScaling } from "./source.ts";

interface Defaults {
  kvHeads?: number;
  headDim?: number;
  maxPositions: number;
  slidingWindow?: number;
}

const llamaFamily: Readonly<Record<Exclude<ArchitectureName, "gpt2">, Defaults>> = {
  llama: { maxPositions: 2048 },
  mistral: { maxPositions: 131072, kvHeads: 8, slidingWindow: 4096 },
  qwen2: { maxPositions: 32768, kvHeads: 32 },
  qwen3: { maxPositions: 32768, kvHeads: 32, headDim: 128 },
};

export function huggingFaceConfig(json: Json, where: string): BackboneConfig {
  const settings = new Settings(key => json[key], where);
  for (const key of ["quantization_config", "num_experts", "num_local_experts", "partial_rotary_factor"]) {
    const value = settings.value(key);
    if (value !== undefined && value !== 0 && !(key === "partial_rotary_factor" && value === 1)) {
      settings.unimplemented(key, value);
    }
  }
  const type = settings.value("model_type");
  if (type === "gpt2") return gpt2Config(settings);
  if (typeof type === "string" && Object.hasOwn(llamaFamily, type)) {
    return llamaConfig(json, settings, type as keyof typeof llamaFamily);
  }
  const known = [...Object.keys(llamaFamily), "gpt2"].join(", ");
  return settings.refuse(`model_type ${show(type)} is not implemented; ${known} are`);
}

function llamaConfig(json: Json, settings: Settings, architecture: keyof typeof llamaFamily): BackboneConfig {
  const defaults = llamaFamily[architecture];
  const hiddenSize = settings.size("hidden_size");
  const heads = settings.size("num_attention_heads");
  const maxPositions = settings.size("max_position_embeddings", defaults.maxPositions);
  const activation = settings.value("hidden_act") ?? "silu";
  if (activation !== "silu" && activation !== "swish") settings.unimplemented("hidden_act", activation);
  refuseSlidingWindow(json, settings, architecture, maxPositions);
  const biased = architecture === "llama" || architecture === "qwen3";
  return checkedConfig(
    {
      architecture,
      vocabSize: settings.size("vocab_size"),
      hiddenSize,
      intermediateSize: settings.size("intermediate_size"),
      layers: settings.size("num_hidden_layers"),
      heads,
      kvHeads: settings.size("num_key_value_heads", defaults.kvHeads ?? heads),
      headDim: settings.size("head_dim", defaults.headDim ?? hiddenSize / heads),
      maxPositions,
      normEpsilon: settings.positive("rms_norm_eps", 1e-6),
      ...rope(json, settings, maxPositions),
      tiedEmbedding: settings.flag("tie_word_embeddings", false),
      attentionBias: biased && settings.flag("attention_bias", false),
      mlpBias: architecture === "llama" && settings.flag("mlp_bias", false),
    },
    settings,
  );
}

/** A window at least as long as the context never hides anything. */
function refuseSlidingWindow(
  json: Json,
  settings: Settings,
  architecture: string,
  maxPositions: number,
): void {
  const types = settings.value("layer_types") ?? [];
  if (!Array.isArray(types)) settings.refuse("layer_types must be a list");
  const other = (types as unknown[]).find(type => type !== "full_attention");
  if (other !== undefined) settings.unimplemented("layer_types", other);
  // Qwen names a window that its switch turns off; Mistral has one unless its config says null.
  if (architecture.startsWith("qwen") && !settings.flag("use_sliding_window", false)) return;
  if (architecture === "llama") return;
  const window = "sliding_window" in json ? json.sliding_window : 4096;
  if (window === null || (typeof window === "number" && window >= maxPositions)) return;
  settings.unimplemented("sliding_window", window);
}

/** `rope_parameters` (transformers 5) or `rope_theta` and `rope_scaling` (before). */
function rope(json: Json, settings: Settings, maxPositions: number) {
  const found = json.rope_parameters ?? json.rope_scaling ?? {};
  if (typeof found !== "object" || Array.isArray(found))
    settings.refuse("the rotary settings must be an object");
  const scaling = found as Json;
  const inner = new Settings(key => scaling[key] ?? json[key], "config.json's rotary settings");
  const partial = scaling.partial_rotary_factor ?? 1;
  if (partial !== 1) settings.unimplemented("partial_rotary_factor", partial);
  return {
    ropeTheta: inner.positive("rope_theta", 10000),
    ropeScaling: ropeScaling(scaling, inner, maxPositions),
  };
}

function ropeScaling(scaling: Json, inner: Settings, maxPositions: number): RopeScaling {
  const type = scaling.rope_type ?? scaling.type ?? "default";
  const nested = Object.values(scaling).some(value => typeof value === "object" && value !== null);
  if (nested) return inner.unimplemented("a rotary embedding for each kind of layer", scaling);
  if (type === "default") return null;
  if (type === "linear") return { type, factor: inner.positive("factor") };
  if (type === "llama3") {
    return {
      type,
      factor: inner.positive("factor"),
      lowFrequencyFactor: inner.positive("low_freq_factor"),
      highFrequencyFactor: inner.positive("high_freq_factor"),
      originalMaxPositions: inner.size("original_max_position_embeddings", maxPositions),
    };
  }
  return inner.unimplemented("rope_type", type);
}

/** Settings of GPT-2 that would change its arithmetic, and the value that is implemented. */
const gpt2Switches: readonly [key: string, implemented: boolean][] = [
  ["scale_attn_weights", true],
  ["scale_attn_by_inverse_layer_idx", false],
  ["add_cross_attention", false],
];

function gpt2Config(settings: Settings): BackboneConfig {
  for (const [key, implemented] of gpt2Switches) {
    const value = settings.flag(key, implemented);
    if (value !== implemented) settings.unimplemented(key, value);
  }
  const activation = settings.value("activation_function") ?? "gelu_new";
  if (activation !== "gelu_new" && activation !== "gelu_pytorch_tanh") {
    settings.unimplemented("activation_function", activation);
  }
  const hiddenSize = settings.size("n_embd", 768);
  const heads = settings.size("n_head", 12);
  return checkedConfig(
    {
      architecture: "gpt2",
      vocabSize: settings.size("vocab_size", 50257),
      hiddenSize,
      intermediateSize: settings.size("n_inner", 4 * hiddenSize),
      layers: settings.size("n_layer", 12),
      heads,
      kvHeads: heads,
      headDim: hiddenSize / heads,
      maxPositions: settings.size("n_positions", 1024),
      normEpsilon: settings.positive("layer_norm_epsilon", 1e-5),
      ropeTheta: 10000,
      ropeScaling: null,
      tiedEmbedding: settings.flag("tie_word_embeddings", true),
      attentionBias: true,
      mlpBias: true,
    },
    settings,
  );
}

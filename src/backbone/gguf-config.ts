/** GGUF metadata → BackboneConfig; keys as in https://github.com/ggml-org/ggml/blob/master/docs/gguf.md. */
import type { GgufFile } from "../tensor/gguf.ts";
import { checkedConfig, Settings, show } from "./settings.ts";
import type { ArchitectureName, BackboneConfig, RopeScaling } from "./source.ts";

/** `general.architecture`: Mistral's files call themselves llama. */
const architectures: readonly ArchitectureName[] = ["llama", "qwen2", "qwen3", "gpt2"];

/** Keys that change the arithmetic, and the values under which they do not. */
const refused: readonly [key: string, harmless: (value: unknown) => boolean][] = [
  ["attention.clamp_kqv", value => value === 0],
  ["attention.max_alibi_bias", value => value === 0],
  ["attention.scale", value => value === 0],
  ["attention.causal", value => value === true],
  ["attn_logit_softcapping", value => value === 0],
  ["final_logit_softcapping", value => value === 0],
  ["logit_scale", value => value === 0 || value === 1],
  ["embedding_scale", value => value === 0 || value === 1],
  ["residual_scale", value => value === 0 || value === 1],
  ["use_parallel_residual", value => value === false],
  ["expert_count", value => value === 0],
];

export async function ggufConfig(file: GgufFile, where: string): Promise<BackboneConfig> {
  const general = new Settings(key => file.metadata.get(key), where);
  const name = general.value("general.architecture");
  const architecture = architectures.find(each => each === name);
  if (!architecture) {
    const known = architectures.join(", ");
    return general.refuse(`general.architecture ${show(name)} is not implemented; ${known} are`);
  }
  const kind = general.value("general.type") ?? "model";
  if (kind !== "model") general.refuse(`it holds no model but ${show(kind)}`);
  if (Number(general.value("split.count") ?? 1) > 1) {
    general.refuse("it is one part of several; join them with `llama-gguf-split --merge`");
  }
  const settings = new Settings(
    key => file.metadata.get(`${architecture}.${key}`),
    `${where}, ${architecture}.*`,
  );
  for (const [key, harmless] of refused) {
    const value = settings.value(key);
    if (value !== undefined && !harmless(value)) settings.unimplemented(key, value);
  }
  const maxPositions = settings.size("context_length");
  const window = settings.value("attention.sliding_window") ?? 0;
  // A window at least as long as the context never hides anything.
  if (window !== 0 && !(typeof window === "number" && window >= maxPositions)) {
    settings.unimplemented("attention.sliding_window", window);
  }

  const gpt2 = architecture === "gpt2";
  const hiddenSize = settings.size("embedding_length");
  const heads = settings.size("attention.head_count");
  const headDim = settings.size("attention.key_length", hiddenSize / heads);
  if (settings.size("attention.value_length", headDim) !== headDim) {
    settings.unimplemented("attention.value_length", settings.value("attention.value_length"));
  }
  if (!gpt2 && settings.size("rope.dimension_count", headDim) !== headDim) {
    settings.unimplemented("rope.dimension_count", settings.value("rope.dimension_count"));
  }
  const ropeTheta = shortest(settings.positive("rope.freq_base", 10000));
  const [vocabSize] = file.tensors.get("token_embd.weight")?.dims ?? [];
  const biased = (...tensors: string[]) => tensors.some(tensor => file.tensors.has(`blk.0.${tensor}.bias`));
  return checkedConfig(
    {
      architecture,
      vocabSize: vocabSize ?? general.refuse("it has no token_embd.weight"),
      hiddenSize,
      intermediateSize: settings.size("feed_forward_length"),
      layers: settings.size("block_count"),
      heads,
      kvHeads: settings.size("attention.head_count_kv", heads),
      headDim,
      maxPositions,
      normEpsilon: shortest(settings.positive(`attention.layer_norm_${gpt2 ? "" : "rms_"}epsilon`)),
      ropeTheta,
      ropeScaling: gpt2 ? null : await ropeScaling(file, settings, ropeTheta, headDim),
      tiedEmbedding: !file.tensors.has("output.weight"),
      attentionBias:
        architecture === "qwen2" ? biased("attn_output") : biased("attn_q", "attn_output", "attn_qkv"),
      mlpBias: biased("ffn_up"),
    },
    settings,
  );
}

/** The file holds fp32: 9.9999997e-6 was written as 1e-5. */
const shortest = (value: number): number => Number(value.toPrecision(7));

async function ropeScaling(
  file: GgufFile,
  settings: Settings,
  theta: number,
  headDim: number,
): Promise<RopeScaling> {
  // As llama.cpp reads them: a factor without a type is linear, the older key stands in for the newer, 0 is none.
  const type = settings.value("rope.scaling.type") ?? "linear";
  if (type !== "none" && type !== "linear") settings.unimplemented("rope.scaling.type", type);
  const factor = settings.value("rope.scaling.factor") ?? settings.value("rope.scale_linear") ?? 1;
  if (typeof factor !== "number" || !(factor >= 0)) {
    return settings.refuse(`the rotary scaling factor is ${show(factor)}; it must be a positive number`);
  }
  const linear = type === "none" || factor === 0 ? 1 : factor;
  if (!file.tensors.has("rope_freqs.weight")) {
    return linear === 1 ? null : { type: "linear", factor: shortest(linear) };
  }
  if (linear !== 1) settings.unimplemented("linear rotary scaling beside rope_freqs.weight", linear);
  return llama3Scaling(await file.read("rope_freqs.weight"), theta, headDim, settings);
}

/**
 * Llama 3's scaling is stored as its result, a divisor for each frequency. Its settings are recovered: the largest
 * divisor is the factor; low and high are 1 and 4 in every Llama 3, and only their ratio to the original length shows.
 */
function llama3Scaling(
  divisors: Float32Array,
  theta: number,
  headDim: number,
  settings: Settings,
): RopeScaling {
  if (divisors.length === headDim / 2) {
    const factor = divisors.reduce((a, b) => Math.max(a, b), 1);
    if (divisors.every(divisor => divisor === 1)) return null;
    for (let original = 4; original <= 2 ** 20; original *= 2) {
      const fits = divisors.every((divisor, i) => {
        const turns = (original * theta ** ((-2 * i) / headDim)) / (2 * Math.PI);
        const blend = Math.min(1, Math.max(0, (turns - 1) / 3));
        return Math.abs(divisor * ((1 - blend) / factor + blend) - 1) < 1e-4;
      });
      if (!fits) continue;
      return {
        type: "llama3",
        factor,
        lowFrequencyFactor: 1,
        highFrequencyFactor: 4,
        originalMaxPositions: original,
      };
    }
  }
  return settings.refuse(
    "rope_freqs.weight is not Llama 3's scaling, the only one implemented; choose another file",
  );
}

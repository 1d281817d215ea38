import { stat } from "node:fs/promises";
import { elementCount } from "../tensor/tensor.ts";
import { openGgufBackbone } from "./gguf-source.ts";
import { openHuggingFaceBackbone } from "./huggingface-source.ts";
import { badBackbone } from "./settings.ts";

/**
 * A backbone as its files hold it: configuration, named fp32 tensors and the tokenizer's files.
 * A GGUF file and a Hugging Face directory look the same from here on.
 */

export type ArchitectureName = "llama" | "mistral" | "qwen2" | "qwen3" | "gpt2";

/** Rotary scaling that the architectures implement; null is none. */
export type RopeScaling =
  | null
  | {
      type: "llama3";
      factor: number;
      lowFrequencyFactor: number;
      highFrequencyFactor: number;
      /** Positions. */
      originalMaxPositions: number;
    }
  | { type: "linear"; factor: number };

export interface BackboneConfig {
  architecture: ArchitectureName;
  vocabSize: number;
  hiddenSize: number;
  intermediateSize: number;
  layers: number;
  heads: number;
  kvHeads: number;
  headDim: number;
  maxPositions: number;
  /** The epsilon of RMSNorm (Llama family) or LayerNorm (GPT-2). */
  normEpsilon: number;
  /** 10000 where the architecture has no rotary embedding. */
  ropeTheta: number;
  ropeScaling: RopeScaling;
  /** The output projection is the token embedding; `lm_head.weight` is then absent. */
  tiedEmbedding: boolean;
  /** All four attention projections have biases. False for Qwen 2, whose Q, K and V always have them. */
  attentionBias: boolean;
  mlpBias: boolean;
}

export interface TokenizerFiles {
  /** tokenizer.json, parsed. */
  tokenizer: object;
  /** tokenizer_config.json, parsed. */
  config: object;
  /** A Jinja template, or null where the backbone has none. */
  chatTemplate: string | null;
  addBos: boolean;
  bosTokenId: number | null;
  eosTokenIds: number[];
}

export interface BackboneSource {
  /** For people: the file's or directory's own name. */
  name: string;
  config: BackboneConfig;
  /**
   * Canonical name → shape: Hugging Face names without the leading "model." or "transformer.".
   * `layers.0.self_attn.q_proj.weight` is [out, in]; GPT-2's `h.0.attn.c_attn.weight` is [in, out].
   */
  tensors: ReadonlyMap<string, readonly number[]>;
  /** One tensor as fp32, row-major. Throws `bad_backbone` for a name that is not in `tensors`. */
  read(name: string): Promise<Float32Array>;
  /** Null where the directory has no tokenizer.json, or the GGUF file no vocabulary. */
  tokenizerFiles(): Promise<TokenizerFiles | null>;
  /** SHA-256 (hex) over the stored tensors' names, shapes and bytes; `done` runs from 0 to 1. */
  fingerprint(onProgress?: (done: number) => void): Promise<string>;
  close(): Promise<void>;
}

/** How many numbers the backbone's tensors hold. */
export const parametersOf = ({ tensors }: Pick<BackboneSource, "tensors">): number =>
  [...tensors.values()].reduce((sum, dims) => sum + elementCount(dims), 0);

/** A GGUF file, or a directory in the Hugging Face layout. Throws `bad_backbone`, which says what to do. */
export async function openBackbone(path: string): Promise<BackboneSource> {
  const status = await stat(path).catch(cause =>
    badBackbone(`${path} cannot be opened (${cause.code ?? cause}).`, cause),
  );
  if (status.isDirectory()) return openHuggingFaceBackbone(path);
  if (path.endsWith(".safetensors")) badBackbone(`${path} is only a part of a backbone: give its directory.`);
  return openGgufBackbone(path);
}

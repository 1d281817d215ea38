/** All that compiling needs of a backbone on disk. */
import { type BackboneSource, openBackbone } from "../backbone/source.ts";
import { type Tokenizer, tokenizerOf } from "../backbone/tokenizer.ts";
import { createRuntime } from "../runtime/create.ts";
import type { Runtime } from "../runtime/runtime.ts";
import type { Precision, VariantsOptions } from "./variants.ts";

export interface OpenSettings {
  /** A GGUF file or a Hugging Face directory. */
  backbone: string;
  /** Where compiled weights are kept. */
  cache: string;
  runtime: "onnx" | "tfjs";
  threads: number;
  precision: Precision;
}

export interface OpenedSource {
  source: BackboneSource;
  tokenizer: Tokenizer;
  runtime: Runtime;
  options: VariantsOptions;
}

/** Throws `bad_backbone` where the backbone is not whole. */
export async function openSource({
  backbone,
  cache,
  runtime: name,
  threads,
  precision,
}: OpenSettings): Promise<OpenedSource> {
  const source = await openBackbone(backbone);
  const tokenizer = await tokenizerOf(source);
  const runtime = await createRuntime(name, threads);
  const encode = (text: string) => tokenizer.encode(text);
  return { source, tokenizer, runtime, options: { precision, runtime, encode, cache } };
}

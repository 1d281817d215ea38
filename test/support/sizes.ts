import type { BackboneConfig } from "../../src/backbone/source.ts";

/** SmolLM2-135M's, as far as estimates of memory read them. */
export const smollm2 = {
  layers: 30,
  hiddenSize: 576,
  intermediateSize: 1536,
  heads: 9,
  vocabSize: 49152,
} as BackboneConfig;

import type { Graph } from "../../graph/graph.ts";
import type { BackboneConfig } from "../source.ts";
import { gpt2 } from "./gpt2.ts";
import { llama } from "./llama.ts";
import { mistral } from "./mistral.ts";
import { qwen2 } from "./qwen2.ts";
import { qwen3 } from "./qwen3.ts";

/** The graph of one step for every architecture (SmolLM2 is a Llama). */
export const architectures: {
  readonly [Name in BackboneConfig["architecture"]]: (config: BackboneConfig) => Graph;
} = {
  llama,
  mistral,
  qwen2,
  qwen3,
  gpt2,
};

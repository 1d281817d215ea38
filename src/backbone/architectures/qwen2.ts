import type { Graph } from "../../graph/graph.ts";
import type { BackboneConfig } from "../source.ts";
import { llama } from "./llama.ts";

/** Qwen2 and Qwen2.5 (Yang et al. 2024): Llama with biases on queries, keys and values alone. */
export const qwen2 = (config: BackboneConfig): Graph => llama(config, { qkvBias: true });

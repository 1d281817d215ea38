import type { Graph } from "../../graph/graph.ts";
import type { BackboneConfig } from "../source.ts";
import { llama } from "./llama.ts";

/** Qwen3 (Yang et al. 2025): Llama with an RMSNorm over each head of queries and keys. */
export const qwen3 = (config: BackboneConfig): Graph => llama(config, { headNorm: true });

import type { Graph } from "../../graph/graph.ts";
import type { BackboneConfig } from "../source.ts";
import { llama } from "./llama.ts";

/** Mistral (Jiang et al. 2023) is Llama's graph; an active sliding window is refused where the config is read. */
export const mistral = (config: BackboneConfig): Graph => llama(config);

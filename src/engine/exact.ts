/** The keys and values that a prompt compiles to, for use elsewhere: in fp32, in the backbone's own basis. */
import { segmentsLength } from "../backbone/feeds.ts";
import { keepingGraph } from "../backbone/kept.ts";
import type { PrefixParameters } from "../prompt/file.ts";
import type { PromptContent } from "./engine.ts";
import { joinBlocks, type KvBlock } from "./kv.ts";
import type { OpenedCore } from "./open.ts";
import { preparePrompt } from "./prefix.ts";

/** Tokens of a run: requests that are answered meanwhile wait for one, about half a second on two cores. */
const CHUNK = 64;

/**
 * All that stands before the first field, what the prompt is stacked on included: `[layers, kv_heads, P, head_dim]`; P
 * may be 0. Whatever variant answers, these are the numbers of the backbone's own weights: if it is int8, all but trained
 * prefixes is computed in a session of its own over the mapped fp32 weights. Throws what `preparePrompt` throws.
 */
export async function exactPrefix(opened: OpenedCore, content: PromptContent): Promise<PrefixParameters> {
  const { source, tokenizer, variants } = opened;
  const { config } = source;
  const prompt = preparePrompt(content, tokenizer, config, variants.plain);
  const layers = [...prompt.bases, prompt];
  const block = layers.some(({ segments }) => segmentsLength(segments) > 0)
    ? await computed(opened, content)
    : joinBlocks(
        layers.flatMap(({ trained }) => trained ?? []),
        config,
      );
  return {
    dims: [config.layers, config.kvHeads, block.length, config.headDim],
    key: joined(block.key),
    value: joined(block.value),
  };
}

async function computed(
  { variants: { plain, chosen }, core, coreOver, runtime, source: { config } }: OpenedCore,
  content: PromptContent,
): Promise<KvBlock> {
  if (plain === chosen) return core.prefix(content);
  const graph = keepingGraph(plain.graph, config.layers);
  const session = await runtime.load(graph, plain.weights, { packed: false, memory: "returned" });
  try {
    return await coreOver(session, plain, CHUNK).prefix(content);
  } finally {
    await session.close();
  }
}

function joined(layers: readonly Float32Array[]): Float32Array {
  const all = new Float32Array(layers.reduce((sum, layer) => sum + layer.length, 0));
  let at = 0;
  for (const layer of layers) {
    all.set(layer, at);
    at += layer.length;
  }
  return all;
}

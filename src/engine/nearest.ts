/**
 * The words nearest to virtual tokens, by the cosine with rows of the embedding table (Lester et al. 2021, section 7).
 * The product with the whole table is a graph of its own over the weights that are mapped already; it is loaded for one
 * request and given back.
 */
import { float32 } from "../backbone/feeds.ts";
import { embeddingOf } from "../backbone/names.ts";
import type { BackboneConfig } from "../backbone/source.ts";
import { ForewordError } from "../errors.ts";
import { GraphBuilder } from "../graph/builder.ts";
import type { Graph } from "../graph/graph.ts";
import type { NearestTokens, PromptContent } from "./engine.ts";
import type { OpenedCore } from "./open.ts";
import { preparePrompt } from "./prefix.ts";
import { largest } from "./sampler.ts";

/** Virtual tokens of one run: their products with the table are returned. */
const AT_ONCE = 16;

export async function nearestTokens(
  { runtime, compiled, source, tokenizer }: Pick<OpenedCore, "runtime" | "compiled" | "source" | "tokenizer">,
  content: PromptContent,
  count: number,
): Promise<NearestTokens> {
  const { soft } = preparePrompt(content, tokenizer, source.config, compiled);
  if (!soft)
    throw new ForewordError("validation", "The prompt has no virtual tokens. Name a soft prompt.", {
      field: "version",
    });
  const { hiddenSize: hidden } = source.config;
  const positions = soft.length / hidden;
  const session = await runtime.load(tableGraph(source.config), compiled.weights, {
    packed: false,
    memory: "returned",
  });
  try {
    const found: NearestTokens["positions"] = [];
    let lengths: Float32Array = new Float32Array(0);
    for (let from = 0; from < positions; from += AT_ONCE) {
      const part = soft.subarray(from * hidden, Math.min(from + AT_ONCE, positions) * hidden);
      const rows = part.length / hidden;
      const outputs = await session.run({ virtual: float32([rows, hidden], part) }, ["products", "lengths"]);
      lengths = outputs.lengths!.data as Float32Array;
      const products = outputs.products!.data as Float32Array;
      for (let row = 0; row < rows; row++) {
        const length = Math.hypot(...part.subarray(row * hidden, (row + 1) * hidden));
        const cosines = products
          .subarray(row * lengths.length, (row + 1) * lengths.length)
          .map((product, id) => product / (length * lengths[id]! || 1));
        found.push({
          position: from + row,
          length,
          tokens: largest(cosines, count).map(id => ({
            id,
            text: tokenizer.decode([id], { skipSpecial: false }),
            similarity: cosines[id]!,
          })),
        });
      }
    }
    return {
      word_length: lengths.reduce((sum, length) => sum + length, 0) / lengths.length,
      positions: found,
    };
  } finally {
    await session.close();
  }
}

/** `virtual` [positions, hidden] with every row of the table: `products` [positions, vocabulary], `lengths` [vocabulary, 1]. */
function tableGraph(config: BackboneConfig): Graph {
  const g = new GraphBuilder("nearest");
  const virtual = g.input("virtual", "float32", ["positions", config.hiddenSize]);
  const table = g.weight(embeddingOf(config), [config.vocabSize, config.hiddenSize]);
  return g.finish({
    products: g.op("Gemm", [virtual, table], { transB: 1 }),
    lengths: g.op("Sqrt", [g.op("ReduceSumSquare", [table], { axes: [1], keepdims: 1 })], {}),
  });
}

/** A Llama's forward pass in plain loops and doubles, straight from the papers: an oracle for what graphs compute inside. */
import type { BackboneConfig, BackboneSource } from "../../src/backbone/source.ts";

type Vector = Float64Array<ArrayBuffer>;

export interface SlowPass {
  /** Of the next token, [token][vocabulary]. */
  logits: Vector[];
  layers: {
    /** After rotary, [token][kvHeads · headDim]. */
    keys: Vector[];
    values: Vector[];
    /** [query][head][key], 0 ahead of the query. */
    attention: Vector[][];
  }[];
}

/** Without biases, rotary scaling and head norms. `layers`: how many of them are computed. */
export async function slowLlama(
  source: BackboneSource,
  ids: readonly number[],
  layers = source.config.layers,
): Promise<SlowPass> {
  const { config } = source;
  const { hiddenSize, heads, kvHeads, headDim, tiedEmbedding } = config;
  const linear = async (name: string) => {
    const weight = await source.read(name);
    const [out, from] = source.tensors.get(name)! as [number, number];
    return (x: Vector) => new Float64Array(out).map((_, row) => dot(weight, row * from, x, 0, from));
  };
  const norm = async (name: string) => {
    const gain = await source.read(name);
    return (x: Vector) => {
      const scale = 1 / Math.sqrt(dot(x, 0, x, 0, x.length) / x.length + config.normEpsilon);
      return x.map((value, i) => value * scale * gain[i]!);
    };
  };
  const table = await source.read("embed_tokens.weight");
  let stream = ids.map(id => Float64Array.from(table.subarray(id * hiddenSize, (id + 1) * hiddenSize)));
  const found: SlowPass["layers"] = [];
  for (let layer = 0; layer < layers; layer++) {
    const at = (name: string) => `layers.${layer}.${name}.weight`;
    const [q, k, v, o] = await Promise.all(
      ["q_proj", "k_proj", "v_proj", "o_proj"].map(name => linear(at(`self_attn.${name}`))),
    );
    const [gate, up, down] = await Promise.all(
      ["gate_proj", "up_proj", "down_proj"].map(name => linear(at(`mlp.${name}`))),
    );
    const before = await norm(at("input_layernorm"));
    const after = await norm(at("post_attention_layernorm"));
    const normed = stream.map(before);
    const queries = normed.map((x, position) => rotated(q!(x), position, config));
    const keys = normed.map((x, position) => rotated(k!(x), position, config));
    const values = normed.map(v!);
    const attention = queries.map((query, at) =>
      Array.from({ length: heads }, (_, head) => {
        const group = Math.floor(head / (heads / kvHeads)) * headDim;
        const scores = keys.map((key, position) =>
          position > at ? -Infinity : dot(query, head * headDim, key, group, headDim) / Math.sqrt(headDim),
        );
        return softmax(scores);
      }),
    );
    stream = stream.map((x, at) => {
      const mixed = new Float64Array(heads * headDim).map((_, i) => {
        const head = Math.floor(i / headDim);
        const column = Math.floor(head / (heads / kvHeads)) * headDim + (i % headDim);
        return attention[at]![head]!.reduce((sum, share, key) => sum + share * values[key]![column]!, 0);
      });
      const attended = plus(x, o!(mixed));
      const feeding = after(attended);
      const [opened, raised] = [gate!(feeding), up!(feeding)];
      return plus(attended, down!(opened.map((g, i) => (g / (1 + Math.exp(-g))) * raised[i]!)));
    });
    found.push({ keys, values, attention });
  }
  const last = await norm("norm.weight");
  const vocabulary = await linear(tiedEmbedding ? "embed_tokens.weight" : "lm_head.weight");
  return { logits: layers < config.layers ? [] : stream.map(x => vocabulary(last(x))), layers: found };
}

/** Halves of every head turned by the position (Su et al. 2021). */
function rotated(x: Vector, position: number, { headDim, ropeTheta }: BackboneConfig): Vector {
  const half = headDim / 2;
  return x.map((value, i) => {
    const within = i % headDim;
    const angle = position * ropeTheta ** ((-2 * (within % half)) / headDim);
    const partner = within < half ? -x[i + half]! : x[i - half]!;
    return value * Math.cos(angle) + partner * Math.sin(angle);
  });
}

function softmax(scores: readonly number[]): Vector {
  const weights = Float64Array.from(scores, score => Math.exp(score - Math.max(...scores)));
  const total = weights.reduce((sum, weight) => sum + weight, 0);
  return weights.map(weight => weight / total);
}

function dot(
  a: ArrayLike<number>,
  fromA: number,
  b: ArrayLike<number>,
  fromB: number,
  count: number,
): number {
  let sum = 0;
  for (let i = 0; i < count; i++) sum += a[fromA + i]! * b[fromB + i]!;
  return sum;
}

const plus = (a: Vector, b: Vector): Vector => a.map((value, i) => value + b[i]!);

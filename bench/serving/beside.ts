/**
 * Prefill and decode beside node-llama-cpp's llama.cpp, 32 rows of about 30 tokens: tokens a second, both through their
 * public interface.
 */

import { load, type Product } from "../harness/product.ts";
import type { Generated, LlamaCpp } from "../peers/llama.ts";
import { ROWS } from "./measures.ts";
import { opening } from "./workload.ts";

const DECODED = 32;
type Generate = (texts: readonly string[], tokens: number) => Promise<Generated>;

export async function besidePeer(product: Product, fp32: Product, llama: LlamaCpp) {
  const [fast, ours] = [await through(product), await through(fp32)];
  const theirs: Generate = (texts, tokens) => llama.generate(texts, tokens);
  return {
    "prefill, Foreword": prefill(fast),
    "prefill, Foreword fp32": prefill(ours),
    "prefill, llama.cpp F16": prefill(theirs),
    "decode, Foreword": decode(fast),
    "decode, Foreword fp32": decode(ours),
    "decode, llama.cpp F16": decode(theirs),
  };
}

async function through(product: Product): Promise<Generate> {
  await product.post("/tasks", {
    id: "bare",
    type: "generation",
    prompt: { kind: "hard", template: "{{ input }}" },
  });
  return async (texts, tokens) => {
    const total = { input: 0, output: 0 };
    const seconds = await load(texts.length, texts.length, async index => {
      const { usage } = await product.infer("bare", { input: texts[index]!, max_tokens: tokens });
      total.input += usage.input_tokens - usage.cached_tokens;
      total.output += usage.output_tokens;
    });
    return { seconds, ...total };
  };
}

const openings = () => Array.from({ length: ROWS }, opening);

const prefill = (generate: Generate) => async () => {
  const { input, seconds } = await generate(openings(), 1);
  return input / seconds;
};

/** What further tokens cost: the same texts with few and with many tokens, one from the other. */
const decode = (generate: Generate) => async () => {
  const texts = openings();
  const first = await generate(texts, 1);
  const all = await generate(texts, 1 + DECODED);
  return (all.output - first.output) / (all.seconds - first.seconds);
};

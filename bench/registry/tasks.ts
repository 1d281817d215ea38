/** Many small tasks: nine of ten hard, each tenth with a trained prefix, and requests to them as Zipf's law has it. */
import { readFile } from "node:fs/promises";
import { fileURLToPath } from "node:url";
import type { BackboneReport } from "../../src/contract/backbone.ts";
import { randomFrom } from "../../src/engine/sampler.ts";
import { readPromptFile, writePromptFile } from "../../src/prompt/file.ts";
import { load, type Product } from "../harness/product.ts";
import { text } from "../serving/workload.ts";

/** Positions of a prompt before its field, and words of an input. */
export const LENGTH = 20;
export const INPUT_TOKENS = 30;
const labels = ["positive", "negative"];
const random = randomFrom(11);

export const isPrefix = (at: number): boolean => at % 10 === 5;
export const taskName = (at: number): string => `task-${String(at).padStart(5, "0")}`;

/** A bundled prefix's first positions, every number moved by about a hundredth: real sizes, and no two alike. */
async function perturbed({ fingerprint }: BackboneReport): Promise<() => Uint8Array> {
  const path = fileURLToPath(new URL("../../prompts/sentiment/prefix.safetensors", import.meta.url));
  const { prefix, ...file } = readPromptFile(await readFile(path));
  const [layers, heads, positions, width] = prefix!.dims;
  const cut = (data: Float32Array) => {
    const rows = Array.from({ length: layers * heads }, (_, row) => row * positions * width);
    return Float32Array.from(rows.flatMap(from => [...data.subarray(from, from + LENGTH * width)]));
  };
  const [key, value] = [cut(prefix!.key), cut(prefix!.value)];
  const moved = (data: Float32Array) => data.map(each => each * (0.99 + 0.02 * random()));
  return () =>
    writePromptFile(
      {
        ...file,
        backbone: fingerprint,
        recipe: null,
        prefix: { dims: [layers, heads, LENGTH, width], key: moved(key), value: moved(value) },
      },
      "F16",
    );
}

/** Registers `count` tasks; each has words of its own. */
export async function registerMany(product: Product, count: number): Promise<void> {
  const make = await perturbed(await product.get<BackboneReport>("/backbone"));
  await load(count, 16, async at => {
    const id = taskName(at);
    // The words and the line's own "Review:" come to LENGTH positions.
    const template = `${text(LENGTH - 4)}.\nReview: {{ input }}\nSentiment:`;
    await product.post("/tasks", { id, labels, prompt: { template } });
    if (isPrefix(at))
      await product.post(
        `/tasks/${id}/prompts?activate=true`,
        make(),
        "application/vnd.foreword.prompt+safetensors",
      );
  });
}

/** Ranks 0 to `count` - 1, rank r with a probability of 1 / (r + 1). */
export function zipf(count: number): () => number {
  const sums = new Float64Array(count);
  for (let rank = 0, sum = 0; rank < count; rank++) sums[rank] = sum += 1 / (rank + 1);
  return () => {
    const wanted = random() * sums.at(-1)!;
    let [low, high] = [0, count - 1];
    while (low < high) {
      const middle = (low + high) >> 1;
      if (sums[middle]! < wanted) low = middle + 1;
      else high = middle;
    }
    return low;
  };
}

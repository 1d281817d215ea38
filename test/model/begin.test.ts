/** Where virtual tokens begin, on a checkpoint of every architecture: rows of the table that its own file holds. */
import { readFile } from "node:fs/promises";
import { fileURLToPath } from "node:url";
import { expect, test } from "vitest";
import { openBackbone } from "../../src/backbone/source.ts";
import { type Bench, begin } from "../../src/training/begin.ts";
import type { Plan } from "../../src/training/plan.ts";

const folder = (name: string) =>
  fileURLToPath(new URL(`../fixtures/reference/tiny/${name}`, import.meta.url));

/** A float32 tensor of a safetensors file, read as its specification says. */
async function tensorOf(name: string, tensor: string): Promise<Float32Array> {
  const file = await readFile(`${folder(name)}/model.safetensors`);
  const size = Number(file.readBigUInt64LE(0));
  const { dtype, data_offsets } = JSON.parse(file.subarray(8, 8 + size).toString())[tensor];
  expect(dtype).toBe("F32");
  const [from, to] = data_offsets.map((offset: number) => 8 + size + offset);
  return new Float32Array(new Uint8Array(file.subarray(from, to)).buffer);
}

test.each([
  ["llama", "model.embed_tokens.weight"],
  ["mistral", "model.embed_tokens.weight"],
  ["qwen2", "model.embed_tokens.weight"],
  ["qwen3", "model.embed_tokens.weight"],
  ["gpt2", "transformer.wte.weight"],
])("%s: tokens become rows of %s", async (name, tensor) => {
  const source = await openBackbone(folder(name));
  const ids = [7, 3, 7];
  const plan = { method: "soft", ids, init: "examples" } as unknown as Plan;
  const [virtual, ...more] = await begin({ source } as unknown as Bench, plan, null, 0);
  const table = await tensorOf(name, tensor);
  const hidden = source.config.hiddenSize;
  expect(more).toEqual([]);
  expect(virtual).toEqual({
    input: "virtual",
    dims: [ids.length, hidden],
    data: Float32Array.from(ids.flatMap(id => [...table.subarray(id * hidden, (id + 1) * hidden)])),
  });
  await source.close();
});

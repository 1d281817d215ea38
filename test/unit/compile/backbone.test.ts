/** A backbone whose weights are no numbers is refused before it answers anything. */
import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { openBackbone } from "../../../src/backbone/source.ts";
import { compileBackbone } from "../../../src/compile/backbone.ts";
import { type TinyBackbone, tinyBackbone } from "../../support/tiny.ts";

let tiny: TinyBackbone;
beforeEach(async () => {
  tiny = await tinyBackbone("llama", false);
});
afterEach(() => tiny.remove());

const compile = async () => {
  const source = await openBackbone(tiny.path);
  return compileBackbone(source, join(tiny.path, "compiled"), () => {}).finally(() => source.close());
};

test.each([Number.NaN, Number.POSITIVE_INFINITY])("a weight that is %s", async wrong => {
  const path = join(tiny.path, "model.safetensors");
  const bytes = await readFile(path);
  const header = 8 + Number(bytes.readBigUInt64LE(0));
  const name = "model.layers.1.mlp.down_proj.weight";
  const { data_offsets, dtype } = JSON.parse(bytes.toString("utf8", 8, header))[name];
  expect(dtype).toBe("F32");
  bytes.writeFloatLE(wrong, header + data_offsets[0] + 4 * 7);
  await writeFile(path, bytes);
  await expect(compile()).rejects.toMatchObject({
    code: "bad_backbone",
    message: expect.stringContaining(`layers.1.mlp.down_proj.weight has ${wrong} at index 7`),
  });
});

test("weights that are numbers are compiled", async () => {
  expect((await compile()).weights.entries.size).toBeGreaterThan(10);
});

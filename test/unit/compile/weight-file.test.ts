/** A file of weights is there whole or not at all, and what a killed process began goes with the next one written. */
import { mkdir, mkdtemp, readdir, rm, truncate, utimes, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import {
  cachedWeights,
  type NamedTensor,
  readFloats,
  writeWeights,
} from "../../../src/compile/weight-file.ts";

const HOUR = 3_600_000;
let root: string;
beforeEach(async () => {
  root = await mkdtemp(join(tmpdir(), "foreword-weights-"));
});
afterEach(() => rm(root, { recursive: true, force: true }));

async function* tensors(): AsyncGenerator<NamedTensor> {
  yield { name: "a", data: Float32Array.of(1, 2, 3) };
  yield { name: "b", data: Float32Array.of(4) };
}

async function scratch(name: string, hoursAgo: number): Promise<void> {
  await mkdir(join(root, name));
  await left(join(root, name, "weights.bin"), hoursAgo);
}

async function left(path: string, hoursAgo: number): Promise<void> {
  await writeFile(path, "begun");
  const when = new Date(Date.now() - hoursAgo * HOUR);
  await utimes(path, when, when);
}

test("what was written is read again, each tensor from a page of its own", async () => {
  const folder = join(root, "fp32");
  await writeWeights(folder, tensors());
  const found = (await cachedWeights(folder))!;
  expect([...(await readFloats(found, "a")), ...(await readFloats(found, "b"))]).toEqual([1, 2, 3, 4]);
  expect([...found.entries.values()].map(({ offset }) => offset)).toEqual([0, 4096]);
});

test("a file that was cut is not taken for a whole one", async () => {
  const folder = join(root, "fp32");
  const { path } = await writeWeights(folder, tensors());
  await truncate(path, 5000);
  expect(await cachedWeights(folder)).toBeNull();
});

test("scratch folders of killed processes go, those still written to and those of other files stay", async () => {
  await scratch("fp32.11.tmp", 2);
  await scratch("fp32.12.tmp", 0.5);
  await scratch("int8.13.tmp", 2);
  await writeWeights(join(root, "fp32"), tensors());
  expect((await readdir(root)).sort()).toEqual(["fp32", "fp32.12.tmp", "int8.13.tmp"]);
});

test("models of killed processes go from among the weights, those being loaded stay", async () => {
  const folder = join(root, "fp32");
  await writeWeights(folder, tensors());
  await left(join(folder, ".llama-1.onnx"), 2);
  await left(join(folder, ".llama-2.onnx"), 0.5);
  await left(join(folder, "check-1.json"), 2);
  expect(await cachedWeights(folder)).not.toBeNull();
  expect((await readdir(folder)).sort()).toEqual([
    ".llama-2.onnx",
    "check-1.json",
    "layout.json",
    "weights.bin",
  ]);
});

test("of several that write at once each has a whole file, and nothing is left over", async () => {
  const folder = join(root, "fp32");
  const files = await Promise.all(Array.from({ length: 4 }, () => writeWeights(folder, tensors())));
  for (const file of files) expect([...(await readFloats(file, "b"))]).toEqual([4]);
  expect(await readdir(root)).toEqual(["fp32"]);
});

test("a write that fails leaves no file that is taken for a whole one", async () => {
  async function* broken(): AsyncGenerator<NamedTensor> {
    yield* tensors();
    throw new Error("the source ends here");
  }
  const folder = join(root, "fp32");
  await expect(writeWeights(folder, broken())).rejects.toThrow("the source ends here");
  expect(await readdir(root)).toEqual([]);
  expect(await cachedWeights(folder)).toBeNull();
});

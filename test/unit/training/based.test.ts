import { expect, test } from "vitest";
import type { KvBlock } from "../../../src/engine/kv.ts";
import { inVariant } from "../../../src/training/based.ts";
import { smollm2 } from "../../support/sizes.ts";

test("what one variant computed is led over to another one's basis: values times its scales, by the other's", () => {
  const config = { ...smollm2, layers: 2, kvHeads: 1, headDim: 2 };
  const block: KvBlock = {
    length: 2,
    key: [Float32Array.of(1, 2, 3, 4), Float32Array.of(5, 6, 7, 8)],
    value: [Float32Array.of(1, 2, 3, 4), Float32Array.of(5, 6, 7, 8)],
  };
  const plain = { valueScales: null };
  const smoothed = { valueScales: [Float32Array.of(2, 4), Float32Array.of(8, 0.5)] };
  expect(inVariant(block, plain, plain, config)).toBe(block);
  const own = inVariant(block, smoothed, plain, config);
  expect(own.value).toEqual([Float32Array.of(2, 8, 6, 16), Float32Array.of(40, 3, 56, 4)]);
  expect(own.key).toEqual(block.key);
  expect(inVariant(own, plain, smoothed, config).value).toEqual(block.value);
});

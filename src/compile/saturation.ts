/**
 * Without instructions for products of bytes (VNNI on x86) the fast way to multiply uint8 by int8 adds pairs of products in
 * 16 bits, which saturate; two uint8 are multiplied in 16 bits and added in 32, exactly, and nearly as fast
 * (docs/decisions.md).
 */
import { GraphBuilder } from "../graph/builder.ts";
import type { CodeType } from "../graph/quantise.ts";
import type { Runtime, WeightFile } from "../runtime/runtime.ts";

/** Rows, and sizes of the matrix: enough for whole tiles of every kernel. */
const ROWS = 8;
const FROM = 64;
const INTO = 32;
const LARGEST = { a: 255, b: 127 } as const;

/** What weights are coded in here, so that their products are exact. `weights` only says where a model may lie. */
export async function codesHere(runtime: Runtime, weights: WeightFile): Promise<CodeType> {
  const g = new GraphBuilder("saturation");
  const operands = [
    g.input("a", "uint8", ["rows", FROM]),
    g.constant("b", "int8", [FROM, INTO], new Int8Array(FROM * INTO).fill(LARGEST.b)),
    g.number(1),
    g.constant("scales", "float32", [INTO], new Float32Array(INTO).fill(1)),
    g.constant("zero", "uint8", [], Uint8Array.of(0)),
  ];
  const product = g.op("MatMulIntegerToFloat", operands, {});
  const session = await runtime.load(g.finish({ product }), weights);
  try {
    for (const rows of [1, ROWS]) {
      const data = new Uint8Array(rows * FROM).fill(LARGEST.a);
      const found = await session.run({ a: { type: "uint8", dims: [rows, FROM], data } }, ["product"]);
      const exact = LARGEST.a * LARGEST.b * FROM;
      if ((found.product!.data as Float32Array).some(value => value !== exact)) return "uint8";
    }
    return "int8";
  } finally {
    await session.close();
  }
}

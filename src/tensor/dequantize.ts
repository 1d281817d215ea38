/**
 * ggml's tensor types → fp32: one row a type. A tensor is a run of blocks; each holds one or two binary16 scales and
 * packed integers. The layouts are those of ggml-common.h; the names in the comments are its own.
 */
import { decodeBfloat, decodeFloat, decodeHalf, halfValues } from "./half.ts";

export interface GgmlType {
  name: string;
  /** Values of a block. */
  blockSize: number;
  blockBytes: number;
  /** Decodes all of `bytes` into `out`, whose length is a whole number of blocks. */
  decode(bytes: Uint8Array, out: Float32Array): void;
}

const half = (bytes: Uint8Array, at: number): number => halfValues[bytes[at]! | (bytes[at + 1]! << 8)]!;

/** Adds the loop over blocks: `decode(bytes, at, out, o)` decodes the block at byte `at` to `out[o…]`. */
function blocks(
  name: string,
  blockSize: number,
  blockBytes: number,
  decode: (bytes: Uint8Array, at: number, out: Float32Array, o: number) => void,
): GgmlType {
  return {
    name,
    blockSize,
    blockBytes,
    decode(bytes, out) {
      for (let at = 0, o = 0; o < out.length; at += blockBytes, o += blockSize) decode(bytes, at, out, o);
    },
  };
}

// Blocks of 32. Low nibbles are the first 16 values, high nibbles the last 16.

const q80 = blocks("Q8_0", 32, 34, (bytes, at, out, o) => {
  const d = half(bytes, at);
  for (let i = 0; i < 32; i++) out[o + i] = d * ((bytes[at + 2 + i]! << 24) >> 24);
});

const q40 = blocks("Q4_0", 32, 18, (bytes, at, out, o) => {
  const d = half(bytes, at);
  for (let i = 0; i < 16; i++) {
    const q = bytes[at + 2 + i]!;
    out[o + i] = d * ((q & 15) - 8);
    out[o + 16 + i] = d * ((q >> 4) - 8);
  }
});

const q41 = blocks("Q4_1", 32, 20, (bytes, at, out, o) => {
  const d = half(bytes, at);
  const m = half(bytes, at + 2);
  for (let i = 0; i < 16; i++) {
    const q = bytes[at + 4 + i]!;
    out[o + i] = d * (q & 15) + m;
    out[o + 16 + i] = d * (q >> 4) + m;
  }
});

/** The fifth bits of a block of 32: bit i belongs to value i. */
const bits32 = (bytes: Uint8Array, at: number): number =>
  bytes[at]! | (bytes[at + 1]! << 8) | (bytes[at + 2]! << 16) | (bytes[at + 3]! << 24);

const q50 = blocks("Q5_0", 32, 22, (bytes, at, out, o) => {
  const d = half(bytes, at);
  const qh = bits32(bytes, at + 2);
  for (let i = 0; i < 16; i++) {
    const q = bytes[at + 6 + i]!;
    out[o + i] = d * (((q & 15) | (((qh >>> i) & 1) << 4)) - 16);
    out[o + 16 + i] = d * (((q >> 4) | (((qh >>> (i + 16)) & 1) << 4)) - 16);
  }
});

const q51 = blocks("Q5_1", 32, 24, (bytes, at, out, o) => {
  const d = half(bytes, at);
  const m = half(bytes, at + 2);
  const qh = bits32(bytes, at + 4);
  for (let i = 0; i < 16; i++) {
    const q = bytes[at + 8 + i]!;
    out[o + i] = d * ((q & 15) | (((qh >>> i) & 1) << 4)) + m;
    out[o + 16 + i] = d * ((q >> 4) | (((qh >>> (i + 16)) & 1) << 4)) + m;
  }
});

/** kvalues_iq4nl: sixteen levels, closer together around zero. */
const levels = Int8Array.of(-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113);

const iq4nl = blocks("IQ4_NL", 32, 18, (bytes, at, out, o) => {
  const d = half(bytes, at);
  for (let i = 0; i < 16; i++) {
    const q = bytes[at + 2 + i]!;
    out[o + i] = d * levels[q & 15]!;
    out[o + 16 + i] = d * levels[q >> 4]!;
  }
});

// Super-blocks of 256.

/** The 6-bit scale of sub-block `j` of 8 (get_scale_min_k4): 12 bytes hold eight scales and eight minima. */
const scaleOf = (bytes: Uint8Array, at: number, j: number): number =>
  j < 4 ? bytes[at + j]! & 63 : (bytes[at + j + 4]! & 15) | ((bytes[at + j - 4]! >> 6) << 4);

const minimumOf = (bytes: Uint8Array, at: number, j: number): number =>
  j < 4 ? bytes[at + j + 4]! & 63 : (bytes[at + j + 4]! >> 4) | ((bytes[at + j]! >> 6) << 4);

/** d, dmin, scales[12], qs[128]. */
const q4k = blocks("Q4_K", 256, 144, (bytes, at, out, o) => {
  const d = half(bytes, at);
  const dmin = half(bytes, at + 2);
  for (let j = 0; j < 8; j++) {
    const scale = Math.fround(d * scaleOf(bytes, at + 4, j));
    const minimum = Math.fround(dmin * minimumOf(bytes, at + 4, j));
    const qs = at + 16 + (j >> 1) * 32;
    const shift = (j & 1) * 4;
    for (let i = 0; i < 32; i++) out[o + j * 32 + i] = scale * ((bytes[qs + i]! >> shift) & 15) - minimum;
  }
});

/** d, dmin, scales[12], qh[32], qs[128]: bit j of qh[i] is the fifth bit of value i of sub-block j. */
const q5k = blocks("Q5_K", 256, 176, (bytes, at, out, o) => {
  const d = half(bytes, at);
  const dmin = half(bytes, at + 2);
  for (let j = 0; j < 8; j++) {
    const scale = Math.fround(d * scaleOf(bytes, at + 4, j));
    const minimum = Math.fround(dmin * minimumOf(bytes, at + 4, j));
    const qs = at + 48 + (j >> 1) * 32;
    const shift = (j & 1) * 4;
    for (let i = 0; i < 32; i++) {
      const fifth = ((bytes[at + 16 + i]! >> j) & 1) << 4;
      out[o + j * 32 + i] = scale * (((bytes[qs + i]! >> shift) & 15) | fifth) - minimum;
    }
  }
});

/** ql[128], qh[64], scales[16] (signed), d. Each half of 128 values takes 64 bytes of ql and 32 of qh. */
const q6k = blocks("Q6_K", 256, 210, (bytes, at, out, o) => {
  const d = half(bytes, at + 208);
  for (let j = 0; j < 8; j++) {
    const ql = at + (j >> 2) * 64 + (j & 1) * 32;
    const lowShift = (j & 2) * 2;
    const qh = at + 128 + (j >> 2) * 32;
    const highShift = (j & 3) * 2;
    for (let i = 0; i < 32; i++) {
      const scale = (bytes[at + 192 + j * 2 + (i >> 4)]! << 24) >> 24;
      const q = ((bytes[ql + i]! >> lowShift) & 15) | (((bytes[qh + i]! >> highShift) & 3) << 4);
      out[o + j * 32 + i] = Math.fround(d * scale) * (q - 32);
    }
  }
});

/** By their number in a file. */
export const ggmlTypes: ReadonlyMap<number, GgmlType> = new Map([
  [0, { name: "F32", blockSize: 1, blockBytes: 4, decode: decodeFloat }],
  [1, { name: "F16", blockSize: 1, blockBytes: 2, decode: decodeHalf }],
  [2, q40],
  [3, q41],
  [6, q50],
  [7, q51],
  [8, q80],
  [12, q4k],
  [13, q5k],
  [14, q6k],
  [20, iq4nl],
  [30, { name: "BF16", blockSize: 1, blockBytes: 2, decode: decodeBfloat }],
]);

/** Types that a file may hold and that are not decoded, to name them in an error. */
export const unsupportedTypes: ReadonlyMap<number, string> = new Map([
  [9, "Q8_1"],
  [10, "Q2_K"],
  [11, "Q3_K"],
  [15, "Q8_K"],
  [16, "IQ2_XXS"],
  [17, "IQ2_XS"],
  [18, "IQ3_XXS"],
  [19, "IQ1_S"],
  [21, "IQ3_S"],
  [22, "IQ2_S"],
  [23, "IQ4_XS"],
  [24, "I8"],
  [25, "I16"],
  [26, "I32"],
  [27, "I64"],
  [28, "F64"],
  [29, "IQ1_M"],
  [34, "TQ1_0"],
  [35, "TQ2_0"],
  [39, "MXFP4"],
  [40, "NVFP4"],
  [41, "Q1_0"],
]);

/**
 * The head of a GGUF file (https://github.com/ggml-org/ggml/blob/master/docs/gguf.md), versions 2 and 3: metadata of
 * every value type and the tensors' descriptions. Every count is held against the bytes that are left before anything
 * is allocated for it.
 */
import { ForewordError } from "../errors.ts";
import type { FileProblem } from "./bytes.ts";
import { type GgmlType, ggmlTypes, unsupportedTypes } from "./dequantize.ts";
import { Cursor } from "./gguf-cursor.ts";
import { elementCount, printDims } from "./tensor.ts";

export interface GgufTensor {
  type: GgmlType;
  /** Row-major, outermost first: the reverse of the file's order. */
  dims: readonly number[];
  /** From the file's first byte. */
  offset: number;
  byteLength: number;
}

export interface GgufHeader {
  version: number;
  /** Texts, numbers, booleans and arrays of them; a 64-bit integer that a number cannot hold is a bigint. */
  metadata: ReadonlyMap<string, unknown>;
  tensors: ReadonlyMap<string, GgufTensor>;
}

/** A vocabulary has some hundred thousand entries; nothing real comes near. */
const arrayLimit = 4_000_000;
const nestingLimit = 4;

type ValueReader = (cursor: Cursor) => unknown;

/** Scalar value types by their number in the file, and the bytes that one takes at least. */
const scalars: Readonly<Record<number, { read: ValueReader; bytes: number }>> = {
  0: { read: c => c.u8(), bytes: 1 },
  1: { read: c => c.i8(), bytes: 1 },
  2: { read: c => c.u16(), bytes: 2 },
  3: { read: c => c.i16(), bytes: 2 },
  4: { read: c => c.u32(), bytes: 4 },
  5: { read: c => c.i32(), bytes: 4 },
  6: { read: c => c.f32(), bytes: 4 },
  7: { read: c => c.bool(), bytes: 1 },
  8: { read: c => c.text(), bytes: 8 },
  10: { read: c => c.u64(), bytes: 8 },
  11: { read: c => c.i64(), bytes: 8 },
  12: { read: c => c.f64(), bytes: 8 },
};
const arrayType = 9;
const arrayBytes = 12;

/**
 * `bytes` is the file's beginning. Throws `NeedMoreBytes` when the head goes on behind it, and `code` for anything but
 * a valid file whose tensor types can all be decoded.
 */
export function parseGgufHeader(
  bytes: Uint8Array,
  fileSize: number,
  code: FileProblem,
  name: string,
): GgufHeader {
  const fail = (detail: string): never => {
    throw new ForewordError(code, `${name} is not a GGUF file that can be read: ${detail}`);
  };
  const cursor = new Cursor(bytes, fileSize, fail);
  if (cursor.u32() !== 0x46554747) fail('it does not begin with "GGUF".');
  const version = cursor.u32();
  if (version === 0x02000000 || version === 0x03000000)
    fail("it is big-endian; convert it to little-endian.");
  if (version !== 2 && version !== 3) fail(`version ${version} is unknown; versions 2 and 3 are read.`);
  const tensorCount = cursor.count("tensors", 24);
  const metadataCount = cursor.count("metadata entries", 13);

  const value = (type: number, depth: number): unknown => {
    const scalar = scalars[type];
    if (scalar) return scalar.read(cursor);
    if (type !== arrayType) return fail(`metadata value type ${type} is unknown.`);
    if (depth >= nestingLimit) fail(`arrays are nested more than ${nestingLimit} deep.`);
    const element = cursor.u32();
    const count = cursor.count("array elements", scalars[element]?.bytes ?? arrayBytes);
    if (count > arrayLimit) fail(`an array has ${count} elements, the limit is ${arrayLimit}.`);
    const items: unknown[] = [];
    for (let at = 0; at < count; at++) items.push(value(element, depth + 1));
    return items;
  };
  const metadata = new Map<string, unknown>();
  for (let at = 0; at < metadataCount; at++) {
    const key = cursor.text();
    if (metadata.has(key)) fail(`metadata ${JSON.stringify(key)} is there twice.`);
    metadata.set(key, value(cursor.u32(), 0));
  }

  const alignment = metadata.get("general.alignment") ?? 32;
  if (typeof alignment !== "number" || alignment <= 0 || alignment % 8 !== 0) {
    return fail(`general.alignment is ${alignment}; it must be a multiple of 8.`);
  }
  const tensors = new Map<string, GgufTensor>();
  for (let at = 0; at < tensorCount; at++) {
    const tensor = cursor.text();
    if (tensors.has(tensor)) fail(`tensor ${JSON.stringify(tensor)} is there twice.`);
    tensors.set(tensor, tensorInfo(cursor, tensor, alignment, fail));
  }
  const dataStart = Math.ceil(cursor.at / alignment) * alignment;
  return { version, metadata, tensors: placed(tensors, dataStart, fileSize, fail) };
}

function tensorInfo(
  cursor: Cursor,
  name: string,
  alignment: number,
  fail: (detail: string) => never,
): GgufTensor {
  const label = `tensor ${JSON.stringify(name)}`;
  const rank = cursor.u32();
  if (rank > 4) fail(`${label} has ${rank} dimensions, the limit is 4.`);
  const innerFirst = Array.from({ length: rank }, () => cursor.u64());
  const dims = innerFirst.reverse().map(Number);
  const count = elementCount(dims);
  if (!Number.isSafeInteger(count)) fail(`${label} has the size ${printDims(dims)}, beyond any memory.`);
  const typeNumber = cursor.u32();
  const type = ggmlTypes.get(typeNumber);
  if (!type) {
    const known = [...ggmlTypes.values()].map(each => each.name).join(", ");
    const is = unsupportedTypes.get(typeNumber) ?? `the unknown type ${typeNumber}`;
    return fail(`${label} is ${is}, which is not decoded; take a file in one of ${known}.`);
  }
  if ((dims.at(-1) ?? 1) % type.blockSize !== 0) {
    fail(`${label} has rows of ${dims.at(-1)} values, not whole ${type.name} blocks of ${type.blockSize}.`);
  }
  const offset = cursor.u64();
  if (typeof offset !== "number" || offset % alignment !== 0) {
    return fail(`${label} lies at ${offset}, not a multiple of the alignment ${alignment}.`);
  }
  return { type, dims, offset, byteLength: (count / type.blockSize) * type.blockBytes };
}

/** The tensors with offsets from the file's first byte, checked to lie within the file and apart. */
function placed(
  tensors: ReadonlyMap<string, GgufTensor>,
  dataStart: number,
  fileSize: number,
  fail: (detail: string) => never,
): Map<string, GgufTensor> {
  const at = new Map([...tensors].map(([name, t]) => [name, { ...t, offset: dataStart + t.offset }]));
  let end = dataStart;
  for (const [name, { offset, byteLength }] of [...at].sort(([, a], [, b]) => a.offset - b.offset)) {
    const label = `tensor ${JSON.stringify(name)}`;
    if (offset < end) fail(`${label} overlaps the one before it.`);
    end = offset + byteLength;
    if (end > fileSize) fail(`${label} ends at byte ${end}, the file has ${fileSize}; fetch the whole file.`);
  }
  return at;
}

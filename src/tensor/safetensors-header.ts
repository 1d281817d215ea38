/**
 * The safetensors header (https://github.com/huggingface/safetensors#format): 8 bytes little-endian length, JSON, then
 * the tensors' bytes, which must be covered exactly: no hole, no overlap, nothing behind.
 */
import { ForewordError } from "../errors.ts";
import type { FileProblem } from "./bytes.ts";
import { elementCount } from "./tensor.ts";

const dtypeBytes = {
  F64: 8,
  F32: 4,
  F16: 2,
  BF16: 2,
  I64: 8,
  I32: 4,
  I16: 2,
  I8: 1,
  U64: 8,
  U32: 4,
  U16: 2,
  U8: 1,
  BOOL: 1,
  F8_E4M3: 1,
  F8_E5M2: 1,
} as const;

export type Dtype = keyof typeof dtypeBytes;

export interface TensorInfo {
  dtype: Dtype;
  dims: readonly number[];
  /** From the file's first byte. */
  offset: number;
  byteLength: number;
}

export interface SafetensorsHeader {
  tensors: ReadonlyMap<string, TensorInfo>;
  metadata: Readonly<Record<string, string>>;
}

/** The limit of the reference implementation. */
const headerLimit = 100_000_000;

const fail = (code: FileProblem, name: string, detail: string): never => {
  throw new ForewordError(code, `${name} is not a valid safetensors file: ${detail}`);
};

/** The header's length from the file's first 8 bytes, checked against the limit and the file's size. */
export function headerLength(start: Uint8Array, size: number, code: FileProblem, name: string): number {
  if (size < 8)
    fail(code, name, `it has ${size} bytes, the header's length alone takes 8. Send the whole file.`);
  const view = new DataView(start.buffer, start.byteOffset, start.byteLength);
  const length = view.getUint32(0, true) + view.getUint32(4, true) * 2 ** 32;
  if (length > size - 8) {
    fail(code, name, `its header claims ${length} bytes, ${size - 8} are there. Send the whole file.`);
  }
  if (length > headerLimit) fail(code, name, `its header has ${length} bytes, the limit is ${headerLimit}.`);
  return length;
}

export function parseHeader(
  json: Uint8Array,
  size: number,
  code: FileProblem,
  name: string,
): SafetensorsHeader {
  let header: unknown;
  try {
    header = JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(json));
  } catch {
    fail(code, name, "its header is not JSON.");
  }
  if (!isRecord(header)) return fail(code, name, "its header is not a JSON object.");
  const dataStart = 8 + json.byteLength;
  const tensors = new Map<string, TensorInfo>();
  for (const [tensor, entry] of Object.entries(header)) {
    if (tensor === "__metadata__") continue;
    tensors.set(tensor, tensorInfo(tensor, entry, dataStart, size, code, name));
  }
  checkCoverage(tensors, dataStart, size, code, name);
  return { tensors, metadata: metadataOf(header.__metadata__, code, name) };
}

function tensorInfo(
  tensor: string,
  entry: unknown,
  dataStart: number,
  size: number,
  code: FileProblem,
  name: string,
): TensorInfo {
  const label = JSON.stringify(tensor);
  if (!isRecord(entry)) return fail(code, name, `tensor ${label} is not described by an object.`);
  const { dtype, shape, data_offsets: offsets } = entry;
  if (typeof dtype !== "string" || !Object.hasOwn(dtypeBytes, dtype)) {
    return fail(code, name, `tensor ${label} has the unknown dtype ${JSON.stringify(dtype)}.`);
  }
  if (!isCounts(shape)) return fail(code, name, `tensor ${label} has a shape that is not a list of sizes.`);
  if (!isCounts(offsets) || offsets.length !== 2) {
    return fail(code, name, `tensor ${label} needs data_offsets [begin, end].`);
  }
  const [begin, end] = offsets as [number, number];
  if (begin > end || end > size - dataStart) {
    fail(
      code,
      name,
      `tensor ${label} lies at [${begin}, ${end}], outside the ${size - dataStart} bytes of data.`,
    );
  }
  const expected = elementCount(shape) * dtypeBytes[dtype as Dtype];
  if (expected !== end - begin) {
    const is = `shape [${shape.join(", ")}] of ${dtype} takes ${expected} bytes, data_offsets hold ${end - begin}`;
    fail(code, name, `tensor ${label}: ${is}.`);
  }
  return { dtype: dtype as Dtype, dims: shape, offset: dataStart + begin, byteLength: end - begin };
}

function checkCoverage(
  tensors: ReadonlyMap<string, TensorInfo>,
  dataStart: number,
  size: number,
  code: FileProblem,
  name: string,
): void {
  const inOrder = [...tensors].sort(([, a], [, b]) => a.offset - b.offset || a.byteLength - b.byteLength);
  let next = dataStart;
  for (const [tensor, { offset, byteLength }] of inOrder) {
    const label = JSON.stringify(tensor);
    if (offset < next) fail(code, name, `tensor ${label} overlaps the one before it.`);
    if (offset > next) fail(code, name, `${offset - next} bytes before tensor ${label} belong to no tensor.`);
    next = offset + byteLength;
  }
  if (next !== size) fail(code, name, `${size - next} bytes at its end belong to no tensor.`);
}

function metadataOf(value: unknown, code: FileProblem, name: string): Record<string, string> {
  if (value === undefined) return {};
  if (!isRecord(value) || !Object.values(value).every(each => typeof each === "string")) {
    return fail(code, name, "__metadata__ must map texts to texts.");
  }
  return value as Record<string, string>;
}

const isRecord = (value: unknown): value is Record<string, unknown> =>
  typeof value === "object" && value !== null && !Array.isArray(value);

const isCounts = (value: unknown): value is number[] =>
  Array.isArray(value) && value.every(each => Number.isSafeInteger(each) && each >= 0);

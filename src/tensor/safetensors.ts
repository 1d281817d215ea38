import { ForewordError } from "../errors.ts";
import { FileBytes, type FileProblem } from "./bytes.ts";
import { decodeBfloat, decodeFloat, decodeHalf, toHalf } from "./half.ts";
import {
  type Dtype,
  headerLength,
  parseHeader,
  type SafetensorsHeader,
  type TensorInfo,
} from "./safetensors-header.ts";
import { elementCount, printDims } from "./tensor.ts";

export type { Dtype, SafetensorsHeader, TensorInfo } from "./safetensors-header.ts";

/** A file on disk: the header is in memory, each tensor is read when asked for. */
export interface SafetensorsFile extends SafetensorsHeader {
  /** fp32 values of an F32, F16 or BF16 tensor. */
  read(name: string): Promise<Float32Array>;
  /** Up to `length` stored bytes of a tensor from `offset` within it; all of them by default. */
  readBytes(name: string, offset?: number, length?: number): Promise<Uint8Array>;
  close(): Promise<void>;
}

/** A file in memory. */
export interface SafetensorsBuffer extends SafetensorsHeader {
  /** fp32 values of an F32, F16 or BF16 tensor, in an array of their own. */
  read(name: string): Float32Array;
  /** A view of the tensor's stored bytes. */
  readBytes(name: string): Uint8Array;
}

const decoders: Partial<Record<Dtype, (bytes: Uint8Array, out: Float32Array) => void>> = {
  F32: decodeFloat,
  F16: decodeHalf,
  BF16: decodeBfloat,
};

/** Throws `code` (`bad_backbone` by default) for anything but a valid file. */
export async function openSafetensors(
  path: string,
  code: FileProblem = "bad_backbone",
): Promise<SafetensorsFile> {
  const file = await FileBytes.open(path, code);
  try {
    const length = headerLength(await file.read(0, Math.min(8, file.size)), file.size, code, path);
    const { tensors, metadata } = parseHeader(await file.read(8, length), file.size, code, path);
    const readBytes = (name: string, offset = 0, length = Number.POSITIVE_INFINITY) => {
      const info = find(tensors, name, code, path);
      return file.read(info.offset + offset, Math.min(length, info.byteLength - offset));
    };
    return {
      tensors,
      metadata,
      readBytes,
      read: async name => decode(find(tensors, name, code, path), await readBytes(name), name, code),
      close: () => file.close(),
    };
  } catch (error) {
    await file.close();
    throw error;
  }
}

/** Throws `code` (`bad_tensor` by default) for anything but a valid file. */
export function parseSafetensors(bytes: Uint8Array, code: FileProblem = "bad_tensor"): SafetensorsBuffer {
  const what = "The upload";
  const length = headerLength(bytes.subarray(0, 8), bytes.byteLength, code, what);
  const { tensors, metadata } = parseHeader(bytes.subarray(8, 8 + length), bytes.byteLength, code, what);
  const readBytes = (name: string) => {
    const { offset, byteLength } = find(tensors, name, code, what);
    return bytes.subarray(offset, offset + byteLength);
  };
  const read = (name: string) => decode(find(tensors, name, code, what), readBytes(name), name, code);
  return { tensors, metadata, read, readBytes };
}

function find(
  tensors: ReadonlyMap<string, TensorInfo>,
  name: string,
  code: FileProblem,
  file: string,
): TensorInfo {
  const info = tensors.get(name);
  if (info) return info;
  const there = [...tensors.keys()].slice(0, 8).join(", ") || "none";
  throw new ForewordError(code, `${file} has no tensor ${JSON.stringify(name)}; it has ${there}.`);
}

function decode(info: TensorInfo, bytes: Uint8Array, name: string, code: FileProblem): Float32Array {
  const decoder = decoders[info.dtype];
  if (!decoder) {
    const detail = `Tensor ${JSON.stringify(name)} is ${info.dtype}; store it as F32, F16 or BF16.`;
    throw new ForewordError(code, detail);
  }
  const out = new Float32Array(elementCount(info.dims));
  decoder(bytes, out);
  return out;
}

export interface TensorToWrite {
  name: string;
  dims: readonly number[];
  data: Float32Array;
  /** F32 by default. */
  dtype?: "F32" | "F16";
}

/**
 * A safetensors file: F32 tensors first and then F16, as the reference implementation orders them, and the header padded
 * with spaces, so that every tensor is aligned.
 */
export function writeSafetensors(
  tensors: readonly TensorToWrite[],
  metadata: Readonly<Record<string, string>> = {},
): Uint8Array {
  const ordered = [
    ...tensors.filter(({ dtype }) => dtype !== "F16"),
    ...tensors.filter(({ dtype }) => dtype === "F16"),
  ];
  const entries: [string, unknown][] = [];
  if (Object.keys(metadata).length > 0) entries.push(["__metadata__", metadata]);
  let end = 0;
  for (const { name, dims, data, dtype = "F32" } of ordered) {
    if (elementCount(dims) !== data.length) {
      throw new RangeError(`tensor ${name}: shape ${printDims(dims)} does not hold ${data.length} values`);
    }
    const begin = end;
    end += data.length * (dtype === "F16" ? 2 : 4);
    entries.push([name, { dtype, shape: dims, data_offsets: [begin, end] }]);
  }
  if (new Set(entries.map(([name]) => name)).size < entries.length) {
    throw new RangeError("two tensors have one name, or a tensor is called __metadata__");
  }
  const json = new TextEncoder().encode(JSON.stringify(Object.fromEntries(entries)));
  const dataStart = Math.ceil((8 + json.length) / 8) * 8;
  const file = new Uint8Array(dataStart + end);
  file.fill(0x20, 8, dataStart);
  file.set(json, 8);
  const view = new DataView(file.buffer);
  view.setUint32(0, dataStart - 8, true);
  let at = dataStart;
  for (const { data, dtype = "F32" } of ordered) {
    if (dtype === "F16") {
      for (const value of data) {
        view.setUint16(at, toHalf(value), true);
        at += 2;
      }
    } else {
      file.set(new Uint8Array(data.buffer, data.byteOffset, data.byteLength), at);
      at += data.byteLength;
    }
  }
  return file;
}

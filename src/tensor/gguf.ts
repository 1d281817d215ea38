import { ForewordError } from "../errors.ts";
import { FileBytes, type FileProblem } from "./bytes.ts";
import { NeedMoreBytes } from "./gguf-cursor.ts";
import { type GgufHeader, parseGgufHeader } from "./gguf-header.ts";
import { elementCount } from "./tensor.ts";

export type { GgufHeader, GgufTensor } from "./gguf-header.ts";

/** A GGUF file on disk: the head is in memory, each tensor is read and decoded when asked for. */
export interface GgufFile extends GgufHeader {
  /** fp32 values, row-major in the order of `dims`. */
  read(name: string): Promise<Float32Array>;
  /** Up to `length` stored bytes of a tensor from `offset` within it; all of them by default. */
  readBytes(name: string, offset?: number, length?: number): Promise<Uint8Array>;
  close(): Promise<void>;
}

/** The head of a model with 256,000 tokens takes 10 MB. */
const headLimit = 2 ** 27;
const firstRead = 2 ** 20;

/** Throws `code` (`bad_backbone` by default) for anything but a file that can be read whole. */
export async function openGguf(path: string, code: FileProblem = "bad_backbone"): Promise<GgufFile> {
  const file = await FileBytes.open(path, code);
  try {
    const header = await readHead(file, code);
    const find = (name: string) => {
      const tensor = header.tensors.get(name);
      if (!tensor) throw new ForewordError(code, `${path} has no tensor ${JSON.stringify(name)}.`);
      return tensor;
    };
    const readBytes = (name: string, offset = 0, length = Number.POSITIVE_INFINITY) => {
      const tensor = find(name);
      return file.read(tensor.offset + offset, Math.min(length, tensor.byteLength - offset));
    };
    const read = async (name: string) => {
      const { type, dims } = find(name);
      const out = new Float32Array(elementCount(dims));
      type.decode(await readBytes(name), out);
      return out;
    };
    return { ...header, read, readBytes, close: () => file.close() };
  } catch (error) {
    await file.close();
    throw error;
  }
}

/** The head's length is written nowhere: read more until it parses. */
async function readHead(file: FileBytes, code: FileProblem): Promise<GgufHeader> {
  for (let length = firstRead; ; length *= 4) {
    const bytes = await file.read(0, Math.min(length, file.size, headLimit));
    try {
      return parseGgufHeader(bytes, file.size, code, file.path);
    } catch (error) {
      if (!(error instanceof NeedMoreBytes)) throw error;
      if (length >= headLimit) {
        const detail = `${file.path}: its head has more than ${headLimit} bytes, the limit.`;
        throw new ForewordError(code, detail);
      }
    }
  }
}

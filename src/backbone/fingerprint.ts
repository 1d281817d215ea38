import { createHash } from "node:crypto";

/** A tensor as a file stores it. */
export interface StoredTensor {
  name: string;
  dims: readonly number[];
  byteLength: number;
  readBytes(offset: number, length: number): Promise<Uint8Array>;
}

const chunk = 2 ** 22;

/**
 * SHA-256 (hex) over every tensor in the order of names (UTF-16 code units): the line `["name",[dims]]` as JSON, then
 * the stored bytes. How tensors are spread over files does not change it. They are read once; `onProgress` gets 0 to 1.
 */
export function fingerprintOf(
  tensors: readonly StoredTensor[],
): (onProgress?: (done: number) => void) => Promise<string> {
  let known: Promise<string> | null = null;
  return onProgress => {
    known ??= read(tensors, onProgress);
    return known;
  };
}

async function read(
  tensors: readonly StoredTensor[],
  onProgress: (done: number) => void = () => {},
): Promise<string> {
  const hash = createHash("sha256");
  const total = tensors.reduce((sum, { byteLength }) => sum + byteLength, 0);
  let done = 0;
  for (const { name, dims, byteLength, readBytes } of tensors.toSorted((a, b) =>
    a.name < b.name ? -1 : 1,
  )) {
    hash.update(`${JSON.stringify([name, dims])}\n`);
    for (let offset = 0; offset < byteLength; offset += chunk) {
      const bytes = await readBytes(offset, Math.min(chunk, byteLength - offset));
      hash.update(bytes);
      done += bytes.length;
      onProgress(done / total);
    }
  }
  return hash.digest("hex");
}

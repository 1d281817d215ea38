/** SmolLM2's first layers as a backbone: its tokenizer, widths and file format at an eighth of its cost. */
import { existsSync, readFileSync, renameSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { basename, join } from "node:path";
import { parseGgufHeader } from "../../src/tensor/gguf-header.ts";
import { describeBackbone } from "./backbone.ts";

const LAYERS = 4;

/** A suite about what is done with a backbone, not about what it knows. */
export function describeShallow(name: string, body: (path: string) => void): void {
  describeBackbone(name, path => {
    const shallow = join(tmpdir(), `foreword-test-${LAYERS}-layers-${basename(path)}`);
    if (!existsSync(shallow)) {
      const written = `${shallow}.${process.pid}.tmp`;
      writeFileSync(written, cut(readFileSync(path)));
      renameSync(written, shallow);
    }
    body(shallow);
  });
}

/** A GGUF file of a Llama without the layers from `LAYERS` on; the layout is gguf.md's. */
function cut(file: Buffer): Buffer {
  const { tensors } = parseGgufHeader(file, file.length, "bad_backbone", "the backbone");
  const [name] = tensors.keys();
  let at = file.indexOf(name!) - 8;
  const metadata = Buffer.from(file.subarray(0, at));
  const infos: Buffer[] = [];
  const stored: Buffer[] = [];
  let length = 0;
  for (const [name, { dims, offset, byteLength }] of tensors) {
    const info = Buffer.from(file.subarray(at, at + 8 + name.length + 4 + 8 * dims.length + 4 + 8));
    at += info.length;
    if (name.startsWith("blk.") && Number(name.split(".")[1]) >= LAYERS) continue;
    info.writeBigUInt64LE(BigInt(length), info.length - 8);
    infos.push(info);
    stored.push(padded(file.subarray(offset, offset + byteLength)));
    length += aligned(byteLength);
  }
  metadata.writeBigUInt64LE(BigInt(infos.length), 8);
  const count = "llama.block_count";
  metadata.writeUInt32LE(LAYERS, metadata.indexOf(count) + count.length + 4);
  return Buffer.concat([padded(Buffer.concat([metadata, ...infos])), ...stored]);
}

/** GGUF's default alignment. */
const aligned = (bytes: number) => Math.ceil(bytes / 32) * 32;
const padded = (bytes: Buffer) => Buffer.concat([bytes, Buffer.alloc(aligned(bytes.length) - bytes.length)]);

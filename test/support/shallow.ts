/** SmolLM2's first layers as a backbone: its tokenizer, widths and file format at an eighth of its cost. */
import { existsSync, readFileSync, renameSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { basename, join } from "node:path";
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
  const u64 = (at: number) => Number(file.readBigUInt64LE(at));
  const first = file.indexOf("token_embd.weight") - 8;
  const tensors: { info: Buffer; offset: number; kept: boolean }[] = [];
  let at = first;
  for (let index = 0; index < u64(8); index++) {
    const from = at;
    const name = file.toString("utf8", at + 8, at + 8 + u64(at));
    at += 8 + u64(at);
    at += 4 + 8 * file.readUInt32LE(at) + 4;
    const offset = u64(at);
    at += 8;
    const kept = !name.startsWith("blk.") || Number(name.split(".")[1]) < LAYERS;
    tensors.push({ info: Buffer.from(file.subarray(from, at)), offset, kept });
  }
  const data = file.subarray(aligned(at));
  const ends = tensors.map(({ offset }) => offset).sort((a, b) => a - b);
  const left = tensors.filter(({ kept }) => kept);

  const metadata = Buffer.from(file.subarray(0, first));
  metadata.writeBigUInt64LE(BigInt(left.length), 8);
  const count = "llama.block_count";
  metadata.writeUInt32LE(LAYERS, metadata.indexOf(count) + count.length + 4);
  const stored: Buffer[] = [];
  let length = 0;
  for (const { info, offset } of left) {
    const bytes = data.subarray(
      offset,
      ends.find(end => end > offset),
    );
    info.writeBigUInt64LE(BigInt(length), info.length - 8);
    stored.push(padded(bytes));
    length += aligned(bytes.length);
  }
  return Buffer.concat([padded(Buffer.concat([metadata, ...left.map(({ info }) => info)])), ...stored]);
}

/** GGUF's default alignment. */
const aligned = (bytes: number) => Math.ceil(bytes / 32) * 32;
const padded = (bytes: Buffer) => Buffer.concat([bytes, Buffer.alloc(aligned(bytes.length) - bytes.length)]);

/** One flat file of tensors, cached on disk: mapped, so that processes and sessions share it. */
import { randomUUID } from "node:crypto";
import {
  type FileHandle,
  mkdir,
  open,
  readdir,
  readFile,
  rename,
  rm,
  stat,
  writeFile,
} from "node:fs/promises";
import { basename, dirname, join } from "node:path";
import type { WeightFile } from "../runtime/runtime.ts";

/** Page size: what is mapped should begin on a page. */
const ALIGNMENT = 4096;
/** Compiling takes minutes at most: what nobody has written to for so long, a process that was killed has left. */
const LEFT_MS = 3_600_000;

/** Bytes that are written at once. */
const PIECE = 1 << 30;

type Layout = Record<string, { offset: number; bytes: number }>;

export interface NamedTensor {
  name: string;
  data: Float32Array | Int8Array | Uint8Array;
}

/** The file in `folder`, or null where it is not there whole; what killed processes left beside it goes. */
export async function cachedWeights(folder: string): Promise<WeightFile | null> {
  try {
    const { layout, bytes } = JSON.parse(await readFile(join(folder, "layout.json"), "utf8")) as {
      layout: Layout;
      bytes: number;
    };
    if ((await stat(join(folder, "weights.bin"))).size !== bytes) return null;
    // A model is here only while it is loaded. A disk that is only read has none.
    await sweep(folder, name => /^\..*\.onnx$/.test(name)).catch(() => {});
    return weightFile(folder, layout);
  } catch {
    return null;
  }
}

/** Writes beside the final place and renames, so that a half-written file is never taken for a whole one. */
export async function writeWeights(folder: string, tensors: AsyncIterable<NamedTensor>): Promise<WeightFile> {
  // By chance, since processes of several machines, or containers, may share the disk.
  const scratch = `${folder}.${randomUUID()}.tmp`;
  await mkdir(scratch, { recursive: true });
  const own = `${basename(folder)}.`;
  await sweep(dirname(folder), name => name.startsWith(own) && name.endsWith(".tmp"));
  try {
    const layout = await writeAll(scratch, tensors);
    return await publish(scratch, folder, layout);
  } finally {
    await rm(scratch, { recursive: true, force: true });
  }
}

async function writeAll(scratch: string, tensors: AsyncIterable<NamedTensor>): Promise<Layout> {
  const layout: Layout = {};
  let offset = 0;
  const file = await open(join(scratch, "weights.bin"), "w");
  try {
    for await (const { name, data } of tensors) {
      const bytes = new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
      await writeAt(file, bytes, offset);
      layout[name] = { offset, bytes: bytes.length };
      offset = Math.ceil((offset + bytes.length) / ALIGNMENT) * ALIGNMENT;
    }
    await file.truncate(offset);
    await file.sync();
  } finally {
    await file.close();
  }
  await writeFile(join(scratch, "layout.json"), JSON.stringify({ layout, bytes: offset }));
  return layout;
}

/** Node writes less than 2 GiB at a time, and may write less than it was given. */
async function writeAt(file: FileHandle, bytes: Uint8Array, offset: number): Promise<void> {
  for (let from = 0; from < bytes.length; ) {
    const length = Math.min(bytes.length - from, PIECE);
    from += (await file.write(bytes, from, length, offset + from)).bytesWritten;
  }
}

/** Gives it its name, unless another process did so meanwhile: theirs is the same, and may be in use. */
async function publish(scratch: string, folder: string, layout: Layout): Promise<WeightFile> {
  try {
    await rename(scratch, folder);
  } catch {
    const theirs = await cachedWeights(folder);
    if (theirs) return theirs;
    // What is there is not whole.
    await rm(folder, { recursive: true, force: true });
    await rename(scratch, folder);
  }
  return weightFile(folder, layout);
}

/** Removes entries with such names that nobody has written to for `LEFT_MS`. */
async function sweep(folder: string, left: (name: string) => boolean): Promise<void> {
  for (const name of (await readdir(folder)).filter(left)) {
    const path = join(folder, name);
    // Another process that compiles the same may be done with it between two looks.
    const written = await stat(join(path, "weights.bin"))
      .catch(() => stat(path))
      .catch(() => null);
    if (written && Date.now() - written.mtimeMs > LEFT_MS) await rm(path, { recursive: true, force: true });
  }
}

/** One float32 tensor of the file. */
export async function readFloats({ path, entries }: WeightFile, name: string): Promise<Float32Array> {
  const { offset, bytes } = entries.get(name)!;
  const data = new Float32Array(bytes / Float32Array.BYTES_PER_ELEMENT);
  const file = await open(path, "r");
  try {
    await file.read(new Uint8Array(data.buffer), 0, bytes, offset);
    return data;
  } finally {
    await file.close();
  }
}

const weightFile = (folder: string, layout: Layout): WeightFile => ({
  path: join(folder, "weights.bin"),
  entries: new Map(Object.entries(layout)),
});

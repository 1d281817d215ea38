/** Adapters of PEFT as forms, and archives as files. */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { buffer } from "node:stream/consumers";
import { fileURLToPath } from "node:url";
import { fromBufferPromise } from "yauzl";
import type { BackboneReport } from "../../src/contract/backbone.ts";
import { writePromptFile } from "../../src/prompt/file.ts";

export const adapters = fileURLToPath(new URL("../fixtures/peft", import.meta.url));

export type Adapter = Record<"adapter_config.json" | "adapter_model.safetensors", Buffer>;

export const readAdapter = (folder: string): Adapter => ({
  "adapter_config.json": readFileSync(join(folder, "adapter_config.json")),
  "adapter_model.safetensors": readFileSync(join(folder, "adapter_model.safetensors")),
});

/** Files by their names, and fields; null leaves a part out. */
export function formOf(parts: Record<string, Uint8Array | string | number | null>): FormData {
  const form = new FormData();
  for (const [name, content] of Object.entries(parts)) {
    if (content instanceof Uint8Array) form.append(name, new Blob([new Uint8Array(content)]), name);
    else if (content !== null) form.append(name, String(content));
  }
  return form;
}

/** The members of a zip archive. */
export async function unzip(archive: Uint8Array): Promise<Record<string, Buffer>> {
  const zip = await fromBufferPromise(Buffer.from(archive), { lazyEntries: true, autoClose: false });
  const files: Record<string, Buffer> = {};
  for await (const entry of zip.eachEntry())
    files[entry.fileName] = await buffer(await zip.openReadStreamPromise(entry));
  return files;
}

/** A prompt with a trained prefix, words and virtual tokens before the input. */
export function mixed({ layers, kv_heads, head_dim, hidden, fingerprint }: BackboneReport): Uint8Array {
  const wave = (size: number) => Float32Array.from({ length: size }, (_, at) => Math.sin(at * 1.7));
  const size = layers * kv_heads * 2 * head_dim;
  return writePromptFile({
    kind: "mixed",
    template: "Well, {{ soft(3) }} so: {{ input }}\nthen",
    backbone: fingerprint,
    recipe: null,
    soft: { dims: [3, hidden], data: wave(3 * hidden) },
    prefix: { dims: [layers, kv_heads, 2, head_dim], key: wave(size), value: wave(size) },
  });
}

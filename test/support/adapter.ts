/** Adapters of PEFT as forms, and archives as files. */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { buffer } from "node:stream/consumers";
import { fileURLToPath } from "node:url";
import { fromBufferPromise } from "yauzl";

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

import { ForewordError } from "../../errors.ts";

/** What `torch.save` writes: a zip archive, or a bare pickle in older files. A safetensors header has less than 4 GiB. */
export function isPickle(bytes: Uint8Array): boolean {
  if (bytes.length < 8) return false;
  const view = new DataView(bytes.buffer, bytes.byteOffset);
  return view.getUint32(0) === 0x504b0304 || (bytes[0] === 0x80 && view.getUint32(4) !== 0);
}

export const pickled = (): ForewordError =>
  new ForewordError(
    "bad_tensor",
    "adapter_model.bin is a pickle, and reading one can run code. Load the adapter with PEFT, write it again with save_pretrained(folder, safe_serialization=True), and send adapter_model.safetensors.",
    { field: "adapter_model.safetensors" },
  );

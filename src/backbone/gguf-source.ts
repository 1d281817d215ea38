import { basename } from "node:path";
import { openGguf } from "../tensor/gguf.ts";
import { transpose } from "../tensor/tensor.ts";
import { type BoundTensor, bindTensors } from "./bind.ts";
import { fingerprintOf } from "./fingerprint.ts";
import { ggufConfig } from "./gguf-config.ts";
import { ggufTokenizer } from "./gguf-tokenizer.ts";
import { badBackbone } from "./settings.ts";
import type { BackboneConfig, BackboneSource } from "./source.ts";

/** A backbone in one GGUF file. */
export async function openGgufBackbone(path: string): Promise<BackboneSource> {
  const file = await openGguf(path);
  try {
    const config = await ggufConfig(file, path);
    const bound = bindTensors(config, {
      where: path,
      names: new Map([...file.tensors.keys()].map(name => [name, name])),
      nameOf: tensor => tensor.gguf,
      dimsOf: name => file.tensors.get(name)!.dims,
      storedDims: ({ dims, layout }) => (layout === "transposed" ? dims.toReversed() : dims),
      ignored: name => name === "rope_freqs.weight",
    });
    const stored = [...file.tensors].map(([name, { dims, byteLength }]) => ({
      name,
      dims,
      byteLength,
      readBytes: (offset: number, length: number) => file.readBytes(name, offset, length),
    }));
    return {
      name: basename(path, ".gguf"),
      config,
      tensors: new Map([...bound].map(([name, { dims }]) => [name, dims])),
      read: async name => {
        const tensor = bound.get(name) ?? badBackbone(`${path} has no tensor ${name}.`);
        return canonical(await file.read(tensor.stored), tensor, config);
      },
      tokenizerFiles: async () =>
        file.metadata.has("tokenizer.ggml.model") ? ggufTokenizer(file.metadata) : null,
      fingerprint: fingerprintOf(stored),
      close: () => file.close(),
    };
  } catch (error) {
    await file.close();
    throw error;
  }
}

/** Undoes what llama.cpp's converter did. */
function canonical(data: Float32Array, { dims, layout }: BoundTensor, config: BackboneConfig): Float32Array {
  switch (layout) {
    case "same":
      return data;
    case "transposed":
      return transpose(data, dims[1]!, dims[0]!);
    case "queries":
      return deinterleave(data, config.heads, config.headDim);
    case "keys":
      return deinterleave(data, config.kvHeads, config.headDim);
  }
}

/**
 * Rotary pairs lie side by side in a GGUF's heads (rows 2i and 2i + 1), half a head apart in Hugging Face's (rows i and
 * i + headDim/2). A row is one value for a bias.
 */
function deinterleave(data: Float32Array, heads: number, headDim: number): Float32Array {
  const out = new Float32Array(data.length);
  const width = data.length / (heads * headDim);
  const half = headDim / 2;
  for (let head = 0; head < heads; head++) {
    for (let row = 0; row < headDim; row++) {
      const from = (head * headDim + (row % half) * 2 + Math.floor(row / half)) * width;
      out.set(data.subarray(from, from + width), (head * headDim + row) * width);
    }
  }
  return out;
}

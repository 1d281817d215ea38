/** Where training starts, and the prompt file that it ends as. */
import type { BackboneConfig } from "../backbone/source.ts";
import type { KvBlock } from "../engine/kv.ts";
import { writePromptFile } from "../prompt/file.ts";
import type { Parameter } from "./batches.ts";
import type { Method } from "./graph.ts";

/**
 * A prefix that begins as the keys and values of a text's forward pass (Eyuboglu et al. 2025 found random starts to
 * fail): `[1, kvHeads, P, headDim]` a key and a value a layer.
 */
export function prefixFrom(block: KvBlock, { kvHeads, headDim }: BackboneConfig): Parameter[] {
  const dims = [1, kvHeads, block.length, headDim];
  return block.key.flatMap((key, layer) => [
    { input: `past_key.${layer}`, dims, data: key.slice() },
    { input: `past_value.${layer}`, dims, data: block.value[layer]!.slice() },
  ]);
}

/** Virtual tokens that begin as rows of the embedding table, repeated or cut to `length`: `[length, hidden]`. */
export function softFrom(
  ids: readonly number[],
  length: number,
  table: Float32Array,
  hidden: number,
): Parameter[] {
  const data = new Float32Array(length * hidden);
  for (let position = 0; position < length; position++) {
    const id = ids[position % ids.length]!;
    data.set(table.subarray(id * hidden, (id + 1) * hidden), position * hidden);
  }
  return [{ input: "virtual", dims: [length, hidden], data }];
}

export interface Trained {
  method: Method;
  template: string;
  /** The backbone's fingerprint. */
  backbone: string;
  recipe: unknown;
  parameters: readonly Parameter[];
}

/** The project's own prompt file (contract, section 3). */
export function promptFileOf({ method, template, backbone, recipe, parameters }: Trained): Uint8Array {
  const about = { kind: method, template, backbone, recipe } as const;
  if (method === "soft") {
    const { dims, data } = parameters[0]!;
    return writePromptFile({ ...about, soft: { dims: [dims[0]!, dims[1]!], data } });
  }
  const part = (name: "past_key" | "past_value") =>
    parameters.filter(({ input }) => input.startsWith(name)).map(({ data }) => data);
  const [keys, values] = [part("past_key"), part("past_value")];
  const [, kvHeads, length, headDim] = parameters[0]!.dims as [number, number, number, number];
  const join = (layers: readonly Float32Array[]) => {
    const all = new Float32Array(layers.length * kvHeads * length * headDim);
    for (const [layer, data] of layers.entries()) all.set(data, layer * data.length);
    return all;
  };
  const prefix = {
    dims: [keys.length, kvHeads, length, headDim] as const,
    key: join(keys),
    value: join(values),
  };
  return writePromptFile({ ...about, prefix });
}

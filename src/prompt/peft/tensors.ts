/**
 * adapter_model.safetensors of PEFT's prompts, F32, F16 or BF16:
 * - PROMPT_TUNING, P_TUNING: `prompt_embeddings` `[P, hidden]`. P-tuning's encoder is gone: `save_pretrained` runs it and
 *   keeps what it gives.
 * - MULTITASK_PROMPT_TUNING: the same, shared by all tasks, times `prefix_task_cols[task]` `[P, ranks]` @
 *   `prefix_task_rows[task]` `[ranks, hidden]`, element by element.
 * - PREFIX_TUNING: `prompt_embeddings` `[P, layers · 2 · kv_heads · head_dim]`, a position a row: layer after layer, its
 *   keys and then its values, head after head. Projected prefixes (`prefix_projection`) are stored projected. Rows go
 *   into the cache as they are, so keys are after rotary, and the input's first token has position P.
 */
import type { BackboneReport } from "../../contract/backbone.ts";
import { ForewordError } from "../../errors.ts";
import { parseSafetensors, type SafetensorsBuffer } from "../../tensor/safetensors.ts";
import { checkFinite, type PrefixParameters, type SoftParameters } from "../file.ts";
import type { PeftConfig } from "./config.ts";
import { isPickle, pickled } from "./pickle.ts";

export type PeftBackbone = Pick<
  BackboneReport,
  "name" | "fingerprint" | "layers" | "hidden" | "heads" | "kv_heads" | "head_dim" | "bos"
>;
type KvDims = Pick<PeftBackbone, "layers" | "kv_heads" | "head_dim">;

export interface PeftTensors {
  parameters: { soft: SoftParameters } | { prefix: PrefixParameters };
  metadata: SafetensorsBuffer["metadata"];
}

/** `task` chooses a multitask prompt's rows. Throws `bad_tensor`, which names the tensor. */
export function readPeftTensors(
  bytes: Uint8Array,
  config: PeftConfig,
  backbone: PeftBackbone,
  task: number,
): PeftTensors {
  if (isPickle(bytes)) throw pickled();
  const file = parseSafetensors(bytes, "bad_tensor");
  const shapes = shapesOf(config, backbone);
  checkShapes(file, shapes);
  const read = (name: string): Float32Array => {
    const data = file.read(name);
    checkFinite(name, shapes[name]!, data);
    return data;
  };
  const length = config.num_virtual_tokens;
  const data = read("prompt_embeddings");
  const { metadata } = file;
  if (config.peft_type === "PREFIX_TUNING")
    return { parameters: { prefix: prefixOf(data, length, backbone) }, metadata };
  if (config.peft_type === "MULTITASK_PROMPT_TUNING") {
    const ranks = config.num_ranks ?? 1;
    const cols = read("prefix_task_cols").subarray(task * length * ranks, (task + 1) * length * ranks);
    const rows = read("prefix_task_rows").subarray(task * ranks * backbone.hidden);
    multiply(data, cols, rows, ranks, backbone.hidden);
  }
  return { parameters: { soft: { dims: [length, backbone.hidden], data } }, metadata };
}

type Shapes = Record<string, readonly number[]>;

function shapesOf(config: PeftConfig, { hidden, layers, kv_heads, head_dim }: PeftBackbone): Shapes {
  const { peft_type, num_virtual_tokens: length, num_tasks, num_ranks } = config;
  if (peft_type === "PREFIX_TUNING") return { prompt_embeddings: [length, layers * 2 * kv_heads * head_dim] };
  const shared = { prompt_embeddings: [length, hidden] };
  if (peft_type !== "MULTITASK_PROMPT_TUNING") return shared;
  const [tasks, ranks] = [num_tasks ?? 1, num_ranks ?? 1];
  return { ...shared, prefix_task_cols: [tasks, length, ranks], prefix_task_rows: [tasks, ranks, hidden] };
}

function checkShapes({ tensors }: SafetensorsBuffer, shapes: Shapes): void {
  const bad = (tensor: string, what: string) =>
    new ForewordError("bad_tensor", `adapter_model.safetensors: tensor ${JSON.stringify(tensor)} ${what}`, {
      tensor,
    });
  for (const [name, wanted] of Object.entries(shapes)) {
    const dims = tensors.get(name)?.dims;
    const there = [...tensors.keys()].slice(0, 8).join(", ") || "none";
    if (!dims) throw bad(name, `[${wanted.join(", ")}] is missing; the file has ${there}.`);
    if (dims.join() !== wanted.join())
      throw bad(
        name,
        `has the shape [${dims.join(", ")}]; adapter_config.json and the backbone make it [${wanted.join(", ")}].`,
      );
  }
  const other = [...tensors.keys()].find(name => !Object.hasOwn(shapes, name));
  if (other !== undefined)
    throw bad(
      other,
      `is none of ${Object.keys(shapes).join(", ")}. Write the file with the model's save_pretrained(), which keeps what the prompt is, and no encoder.`,
    );
}

/** `data` `[P, hidden]` times `cols` `[P, ranks]` @ `rows` `[ranks, hidden]`, in place. */
function multiply(
  data: Float32Array,
  cols: Float32Array,
  rows: Float32Array,
  ranks: number,
  hidden: number,
): void {
  for (let at = 0; at < data.length; at++) {
    const [position, unit] = [Math.floor(at / hidden), at % hidden];
    let sum = 0;
    for (let rank = 0; rank < ranks; rank++)
      sum += cols[position * ranks + rank]! * rows[rank * hidden + unit]!;
    data[at] = data[at]! * sum;
  }
}

/** Where each head's `head_dim` numbers lie in a key or value, in the order in which PEFT has them. */
function* places(length: number, { layers, kv_heads, head_dim }: KvDims) {
  for (let position = 0; position < length; position++)
    for (let layer = 0; layer < layers; layer++)
      for (const part of ["key", "value"] as const)
        for (let head = 0; head < kv_heads; head++)
          yield { part, at: ((layer * kv_heads + head) * length + position) * head_dim };
}

function prefixOf(data: Float32Array, length: number, kv: KvDims): PrefixParameters {
  const { layers, kv_heads, head_dim } = kv;
  const [key, value] = [new Float32Array(data.length / 2), new Float32Array(data.length / 2)];
  let from = 0;
  for (const { part, at } of places(length, kv)) {
    (part === "key" ? key : value).set(data.subarray(from, from + head_dim), at);
    from += head_dim;
  }
  return { dims: [layers, kv_heads, length, head_dim], key, value };
}

/** A prefix as `prompt_embeddings` `[P, layers · 2 · kv_heads · head_dim]`. */
export function prefixRows({ dims, ...prefix }: PrefixParameters): Float32Array {
  const [layers, kv_heads, length, head_dim] = dims;
  const data = new Float32Array(2 * prefix.key.length);
  let to = 0;
  for (const { part, at } of places(length, { layers, kv_heads, head_dim })) {
    data.set(prefix[part].subarray(at, at + head_dim), to);
    to += head_dim;
  }
  return data;
}

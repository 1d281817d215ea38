/**
 * The own prompt file (contract, section 3): safetensors with `soft` `[P, hidden]` (slots in template order) and
 * `prefix.key`, `prefix.value` `[layers, kv_heads, P, head_dim]`, F32 or F16; the metadata say what it is. A stacked
 * prompt's file holds those it stands on, too: their templates as `bases` in the metadata, the lowest first, and their
 * tensors as `base.0.soft`, `base.0.prefix.key` and so on.
 */
import { createHash } from "node:crypto";
import { Type } from "typebox";
import { Value } from "typebox/value";
import type { PromptKind } from "../contract/prompt.ts";
import { Verbalizers } from "../contract/task.ts";
import { ForewordError } from "../errors.ts";
import { halfValues, toHalf } from "../tensor/half.ts";
import {
  parseSafetensors,
  type SafetensorsBuffer,
  type TensorToWrite,
  writeSafetensors,
} from "../tensor/safetensors.ts";
import { promptKind } from "./pieces.ts";
import { type CompiledTemplate, compileTemplate } from "./template.ts";

export type Dtype = "F32" | "F16";

export const promptFormat = "foreword-prompt/1";

export interface SoftParameters {
  /** `[P, hidden]` */
  dims: readonly [number, number];
  data: Float32Array;
}

export interface PrefixParameters {
  /** `[layers, kv_heads, P, head_dim]`, of `key` and of `value`. */
  dims: readonly [number, number, number, number];
  /** After rotary, in the backbone's own basis. */
  key: Float32Array;
  value: Float32Array;
}

/** What a prompt is: words, and what was trained for them. */
export interface PromptLayer {
  template: string;
  soft?: SoftParameters;
  prefix?: PrefixParameters;
}

export interface PromptFile extends PromptLayer {
  kind: PromptKind;
  /** The backbone's fingerprint. */
  backbone: string;
  /** How it was made; any JSON value. */
  recipe: unknown;
  /** For labels that do not keep their task's verbalizers. */
  verbalizers?: Verbalizers;
  /** What it is stacked on, the lowest first: of each, what stands before its first field. */
  bases?: readonly PromptLayer[];
}

/** Tensor names, with their dimensions for messages. */
const layouts = {
  soft: "[P, hidden]",
  "prefix.key": "[layers, kv_heads, P, head_dim]",
  "prefix.value": "[layers, kv_heads, P, head_dim]",
} as const;
type TensorName = keyof typeof layouts;

/** Prompts that one may stand on. */
export const MOST_BASES = 8;

const Bases = Type.Array(Type.String(), { maxItems: MOST_BASES });

/** Before the names of a base's tensors. */
const ofBase = (at: number): string => `base.${at}.`;

/**
 * Throws `bad_tensor` (not such a file, a shape, a value that is not finite, rows that do not match the template's
 * slots) and `bad_template`. Whether it fits a backbone is for the caller to say.
 */
export function readPromptFile(bytes: Uint8Array): PromptFile {
  const file = parseSafetensors(bytes, "bad_tensor");
  const { bases: below, ...about } = readMetadata(file.metadata);
  const known = ["", ...below.map((_, at) => ofBase(at))].flatMap(of =>
    Object.keys(layouts).map(name => of + name),
  );
  for (const name of file.tensors.keys()) {
    if (!known.includes(name)) {
      throw bad(
        `The file has a tensor ${JSON.stringify(name)}; ${known.join(", ")} are known. Leave it out.`,
      );
    }
  }
  const own = readLayer(file, about.template, "");
  const bases = below.map((template, at) => readLayer(file, template, ofBase(at)));
  const kind = kindOf(own);
  if (file.metadata.kind !== kind) {
    throw bad(
      `The metadata's kind is ${JSON.stringify(file.metadata.kind)}, the tensors make it ${kind}. Correct "kind".`,
    );
  }
  return { kind, ...about, ...own, ...(bases.length > 0 && { bases }) };
}

export const kindOf = ({ soft, prefix }: PromptLayer): PromptKind =>
  promptKind({ softLengths: soft ? [soft.dims[0]] : [], prefix: prefix?.dims[2] ?? 0 });

/** Whether training has made any of it: else it is text, which any backbone can read. */
export const isTrained = ({ bases = [], ...own }: PromptFile): boolean =>
  [own, ...bases].some(layer => kindOf(layer) !== "hard");

/**
 * The bytes of the file. `dtype` is for the prompt's own parameters; those of what it stands on become F16 if that loses
 * nothing. Refuses what `readPromptFile` would refuse, such as numbers beyond F16's.
 */
export function writePromptFile(file: PromptFile, dtype: Dtype | "as small as is exact" = "F32"): Uint8Array {
  const { bases = [] } = file;
  const own = tensorsOf(file, "", dtype === "as small as is exact" ? exactDtype : () => dtype);
  const tensors = [...own, ...bases.flatMap((layer, at) => tensorsOf(layer, ofBase(at), exactDtype))];
  const bytes = writeSafetensors(tensors, {
    format: promptFormat,
    kind: file.kind,
    template: file.template,
    backbone: file.backbone,
    recipe: JSON.stringify(file.recipe ?? null),
    ...(file.verbalizers && { verbalizers: JSON.stringify(file.verbalizers) }),
    ...(bases.length > 0 && { bases: JSON.stringify(bases.map(({ template }) => template)) }),
  });
  readPromptFile(bytes);
  return bytes;
}

const exactDtype = (data: Float32Array): Dtype =>
  data.every(value => halfValues[toHalf(value)] === value) ? "F16" : "F32";

function tensorsOf(
  { soft, prefix }: PromptLayer,
  of: string,
  dtypeOf: (data: Float32Array) => Dtype,
): TensorToWrite[] {
  const tensor = (name: TensorName, dims: readonly number[], data: Float32Array) => ({
    name: of + name,
    dims,
    data,
    dtype: dtypeOf(data),
  });
  return [
    ...(soft ? [tensor("soft", soft.dims, soft.data)] : []),
    ...(prefix
      ? [tensor("prefix.key", prefix.dims, prefix.key), tensor("prefix.value", prefix.dims, prefix.value)]
      : []),
  ];
}

/** SHA-256, in hexadecimal, over kind, template and parameters (the file's bytes): equal prompts share a KV prefix. */
export function promptDigest(kind: PromptKind, template: string, parameters: Uint8Array | null): string {
  const hash = createHash("sha256").update(JSON.stringify([kind, template]));
  return (parameters ? hash.update(parameters) : hash).digest("hex");
}

function readMetadata(
  metadata: SafetensorsBuffer["metadata"],
): Pick<PromptFile, "template" | "backbone" | "recipe" | "verbalizers"> & { bases: string[] } {
  if (metadata.format !== promptFormat) {
    throw bad(
      `The metadata's format is ${JSON.stringify(metadata.format ?? null)}; a prompt file has "${promptFormat}". ` +
        "PEFT files are uploaded as multipart, with adapter_config.json.",
    );
  }
  const { template, backbone, recipe = "null", verbalizers = "null", bases = "[]" } = metadata;
  if (template === undefined) throw bad('The metadata lack "template", the text with fields and slots.');
  if (!backbone)
    throw bad('The metadata lack "backbone", the fingerprint of the backbone it was trained on.');
  const own = parsed("verbalizers", verbalizers);
  if (own !== null && !Value.Check(Verbalizers, own))
    throw bad('The metadata\'s "verbalizers" are no object of labels with a text or a list of texts each.');
  const below = parsed("bases", bases);
  if (!Value.Check(Bases, below))
    throw bad(
      `The metadata's "bases" are no list of at most ${MOST_BASES} templates, those that the prompt stands on.`,
    );
  return {
    template,
    backbone,
    recipe: parsed("recipe", recipe),
    ...(own !== null && { verbalizers: own }),
    bases: below,
  };
}

function parsed(name: string, json: string): unknown {
  try {
    return JSON.parse(json);
  } catch {
    throw bad(`The metadata's "${name}" is not JSON.`);
  }
}

/** The tensors that `of` begins the names of. */
function readLayer(file: SafetensorsBuffer, template: string, of: string): PromptLayer {
  const soft = readSoft(file, of);
  const prefix = readPrefix(file, of);
  checkSlots(compileTemplate(template), soft?.dims[0] ?? 0, `${of}soft`);
  return { template, ...(soft && { soft }), ...(prefix && { prefix }) };
}

function readSoft(file: SafetensorsBuffer, of: string): SoftParameters | undefined {
  if (!file.tensors.has(`${of}soft`)) return undefined;
  const { dims, data } = readTensor(file, of, "soft");
  return { dims: dims as [number, number], data };
}

function readPrefix(file: SafetensorsBuffer, of: string): PrefixParameters | undefined {
  if (!file.tensors.has(`${of}prefix.key`) && !file.tensors.has(`${of}prefix.value`)) return undefined;
  const key = readTensor(file, of, "prefix.key");
  const value = readTensor(file, of, "prefix.value");
  if (key.dims.join() !== value.dims.join()) {
    throw bad(
      `${of}prefix.key has shape [${key.dims.join(", ")}], ${of}prefix.value [${value.dims.join(", ")}]; they must be the same.`,
    );
  }
  return { dims: key.dims as [number, number, number, number], key: key.data, value: value.data };
}

function readTensor(
  file: SafetensorsBuffer,
  of: string,
  part: TensorName,
): { dims: readonly number[]; data: Float32Array } {
  const name = of + part;
  const info = file.tensors.get(name);
  if (!info) throw bad(`The file lacks tensor "${name}" ${layouts[part]}; a prefix has keys and values.`);
  const { dims, dtype } = info;
  if (dims.length !== layouts[part].split(",").length || dims.includes(0)) {
    throw bad(
      `Tensor "${name}" has shape [${dims.join(", ")}]; it must be ${layouts[part]}, each at least 1.`,
    );
  }
  if (dtype !== "F32" && dtype !== "F16") throw bad(`Tensor "${name}" is ${dtype}; store it as F32 or F16.`);
  const data = file.read(name);
  checkFinite(name, dims, data);
  return { dims, data };
}

/** Throws `bad_tensor`, which names the place. */
export function checkFinite(name: string, dims: readonly number[], data: Float32Array): void {
  const at = data.findIndex(value => !Number.isFinite(value));
  if (at < 0) return;
  const index = indexIn(dims, at);
  throw bad(`Tensor "${name}" has ${data[at]} at [${index.join(", ")}]; every value must be finite.`, {
    tensor: name,
    index,
  });
}

function indexIn(dims: readonly number[], flat: number): number[] {
  let rest = flat;
  return dims
    .toReversed()
    .map(size => {
      const index = rest % size;
      rest = Math.floor(rest / size);
      return index;
    })
    .reverse();
}

/** A slot with a start text has at least one row; how many, its tokenizer knows. */
function checkSlots(template: CompiledTemplate, rows: number, tensor: string): void {
  const slots = template.pieces.filter(piece => piece.kind === "soft");
  const open = slots.some(slot => slot.length === null);
  const least = slots.reduce((sum, slot) => sum + (slot.length ?? 1), 0);
  if (open ? rows >= least : rows === least) return;
  throw bad(
    `The template's soft slots have ${open ? `${least} positions or more` : `${least} positions`}, ` +
      `tensor "${tensor}" has ${rows} rows. They must agree: a row a position.`,
    { tensor, rows, positions: least },
  );
}

function bad(detail: string, fields: Record<string, unknown> = {}): ForewordError {
  return new ForewordError("bad_tensor", detail, fields);
}

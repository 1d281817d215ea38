/** Which variant of a backbone answers, and which ones there are. */
import { existsSync } from "node:fs";
import type { BackboneSource } from "../backbone/source.ts";
import { ForewordError } from "../errors.ts";
import type { CodeType } from "../graph/quantise.ts";
import type { Runtime } from "../runtime/runtime.ts";
import {
  type CompiledBackbone,
  compileBackbone,
  fingerprintOf,
  type Progress,
  plainFolder,
} from "./backbone.ts";
import { checkFile, checkVariant, serves, type VariantCheck } from "./check.ts";
import { compileInt8, int8Folder } from "./int8.ts";
import { codesHere } from "./saturation.ts";
import { cachedWeights } from "./weight-file.ts";

export type Precision = "auto" | CompiledBackbone["precision"];

export interface Variants {
  chosen: CompiledBackbone;
  /** fp32, which every other variant comes from. */
  plain: CompiledBackbone;
  /** Bytes of every variant's weights that is compiled, and what int8 loses, where it is. */
  bytes: Partial<Record<CompiledBackbone["precision"], number>>;
  check: VariantCheck | null;
  /** The codes of int8's weights: with uint8 a gradient takes as long as in fp32. */
  codes: CodeType | null;
}

export interface VariantsOptions {
  precision: Precision;
  runtime: Runtime;
  encode: (text: string) => number[];
  cache: string;
}

/**
 * `auto` is int8 wherever the check on this machine lets it serve. Throws `validation` where int8 is asked for on a
 * runtime that has none.
 */
export async function compileVariants(
  source: BackboneSource,
  options: VariantsOptions,
  progress: Progress,
): Promise<Variants> {
  const { precision, runtime, encode, cache } = options;
  const plain = await compileBackbone(source, cache, progress);
  const { name } = runtime.info;
  if (precision === "int8" && name !== "onnx")
    throw new ForewordError(
      "validation",
      `The runtime ${name} computes fp32 alone. Set FOREWORD_PRECISION to fp32, or FOREWORD_RUNTIME to onnx.`,
    );
  if (precision === "fp32" || name !== "onnx")
    return { chosen: plain, plain, bytes: { fp32: bytesOf(plain) }, check: null, codes: null };
  const codes = await codesHere(runtime, plain.weights);
  const int8 = await compileInt8(source, plain, { runtime, encode, cache, codes }, progress);
  const check = await checkVariant({ source, runtime, encode }, plain, int8, done =>
    progress("comparing int8 with fp32 (once)", done),
  );
  return {
    chosen: precision === "int8" || serves(check) ? int8 : plain,
    plain,
    bytes: { fp32: bytesOf(plain), int8: bytesOf(int8) },
    check,
    codes,
  };
}

/** Whether `compileVariants` finds on disk all that it needs. */
export async function areCompiled(
  source: BackboneSource,
  { precision, runtime, cache }: Omit<VariantsOptions, "encode">,
  progress: Progress,
): Promise<boolean> {
  const fingerprint = await fingerprintOf(source, progress);
  const plain = await cachedWeights(plainFolder(cache, fingerprint));
  if (!plain) return false;
  if (precision === "fp32" || runtime.info.name !== "onnx") return true;
  const folder = int8Folder(cache, fingerprint, await codesHere(runtime, plain));
  return (await cachedWeights(folder)) !== null && existsSync(await checkFile(folder, runtime));
}

const bytesOf = ({ weights }: CompiledBackbone): number =>
  [...weights.entries.values()].reduce((sum, entry) => sum + entry.bytes, 0);

import { ForewordError } from "../errors.ts";
import type { BackboneConfig } from "./source.ts";

/** A model file that cannot be used; `detail` says what is wrong with it and what to do. */
export function badBackbone(detail: string, cause?: unknown): never {
  throw new ForewordError("bad_backbone", detail, {}, cause === undefined ? undefined : { cause });
}

/** Typed look-ups in a model's settings, be they config.json or GGUF metadata. */
export class Settings {
  readonly #get: (key: string) => unknown;
  readonly #where: string;

  constructor(get: (key: string) => unknown, where: string) {
    this.#get = get;
    this.#where = where;
  }

  /** Null counts as absent. */
  value(key: string): unknown {
    return this.#get(key) ?? undefined;
  }

  /** A positive whole number. */
  size(key: string, fallback?: number): number {
    const value = this.value(key) ?? fallback;
    if (typeof value === "number" && Number.isSafeInteger(value) && value > 0) return value;
    return this.refuse(`${key} is ${show(value)}; it must be a positive whole number`);
  }

  /** A positive number. */
  positive(key: string, fallback?: number): number {
    const value = this.value(key) ?? fallback;
    if (typeof value === "number" && Number.isFinite(value) && value > 0) return value;
    return this.refuse(`${key} is ${show(value)}; it must be a positive number`);
  }

  flag(key: string, fallback: boolean): boolean {
    const value = this.value(key) ?? fallback;
    if (typeof value === "boolean") return value;
    return this.refuse(`${key} is ${show(value)}; it must be true or false`);
  }

  refuse(what: string): never {
    return badBackbone(`${this.#where}: ${what}.`);
  }

  /** Refuses a setting that changes the arithmetic and is not implemented. */
  unimplemented(key: string, value: unknown): never {
    return this.refuse(
      `${key} ${show(value)} is not implemented, and ignoring it would give wrong answers; choose another backbone`,
    );
  }
}

/** A setting as an error shows it: JSON, 64-bit integers as digits, cut where it is long. */
export function show(value: unknown): string {
  if (value === undefined) return "missing";
  const text = JSON.stringify(value, (_, each) => (typeof each === "bigint" ? `${each}` : each));
  return text.length > 80 ? `${text.slice(0, 80)}…` : text;
}

/** More than any model has; they bound what a lying file makes us allocate: rotary tables of a gigabyte. */
const layerLimit = 1000;
const positionLimit = 2 ** 20;

/** What must hold between the numbers of any configuration. */
export function checkedConfig(config: BackboneConfig, settings: Settings): BackboneConfig {
  const { layers, heads, kvHeads, headDim, hiddenSize, architecture } = config;
  if (layers > layerLimit) settings.refuse(`it has ${layers} layers, the limit is ${layerLimit}`);
  if (config.maxPositions > positionLimit) {
    settings.refuse(`it claims ${config.maxPositions} positions, the limit is ${positionLimit}`);
  }
  if (heads % kvHeads !== 0) {
    settings.refuse(`${heads} attention heads do not share ${kvHeads} key/value heads evenly`);
  }
  if (architecture === "gpt2" && heads * headDim !== hiddenSize) {
    settings.refuse(`hidden size ${hiddenSize} does not divide into ${heads} heads`);
  }
  if (!Number.isInteger(headDim))
    settings.refuse(`hidden size ${hiddenSize} does not divide into ${heads} heads`);
  if (architecture !== "gpt2" && headDim % 2 !== 0) {
    settings.refuse(`a head of ${headDim} values cannot be rotated in pairs`);
  }
  const scaling = config.ropeScaling;
  if (scaling?.type === "llama3" && scaling.highFrequencyFactor <= scaling.lowFrequencyFactor) {
    settings.refuse("the rotary high_freq_factor must be above low_freq_factor");
  }
  return config;
}

/** Prompts that stand on one another: each adds its own words and trained positions behind those of the ones below. */
import { kindOf, type PromptFile, type PromptLayer, readPromptFile, writePromptFile } from "./file.ts";

/** A version's words, and its file where it has one. */
export interface Stackable {
  template: string;
  parameters: Uint8Array | null;
}

/** A prompt and all that it stands on, the lowest first: the bases of one that is stacked on it. */
export function layersOf(prompt: Stackable): PromptLayer[] {
  const file = fileOf(prompt);
  return [...(file.bases ?? []), layerOf(file)];
}

/** What a prompt stands on; empty where it is nothing. */
export const basesOf = ({ parameters }: Pick<Stackable, "parameters">): readonly PromptLayer[] =>
  (parameters && readPromptFile(parameters).bases) ?? [];

/** The prompt as a file on top of `bases`, whatever it stood on before. */
export function restacked(
  prompt: Stackable,
  bases: readonly PromptLayer[],
  { backbone, recipe = null }: { backbone: string; recipe?: unknown },
): Uint8Array {
  const { verbalizers, ...file } = fileOf(prompt);
  const own = { ...layerOf(file), ...(verbalizers && { verbalizers }) };
  return writePromptFile({ kind: kindOf(own), backbone, recipe, ...own, ...(bases.length > 0 && { bases }) });
}

/** Words on what a platform's file holds; null is nothing. */
export const standing = (template: string, base: Uint8Array | null, backbone: string): Stackable => {
  const words = { template, parameters: null };
  return base
    ? { template, parameters: restacked(words, basesOf({ parameters: base }), { backbone }) }
    : words;
};

/** The prompt alone, on nothing. */
export function unstacked(prompt: Stackable): Stackable {
  const file = fileOf(prompt);
  if (!file.bases) return prompt;
  const { template } = prompt;
  if (kindOf(file) === "hard") return { template, parameters: null };
  return { template, parameters: restacked(prompt, [], file as PromptFile) };
}

/** A prompt without words of its own on `bases`: their keys and values are its KV prefix. */
export const platform = (bases: readonly PromptLayer[], backbone: string): Uint8Array =>
  restacked({ template: PLATFORM, parameters: null }, bases, { backbone });

export const PLATFORM = "{{ input }}";

/** The file's template is the one that it was trained with; a version's words are the same. */
const fileOf = ({ template, parameters }: Stackable): PromptLayer & Partial<PromptFile> =>
  parameters ? readPromptFile(parameters) : { template };

const layerOf = ({ template, soft, prefix }: PromptLayer): PromptLayer => ({
  template,
  ...(soft && { soft }),
  ...(prefix && { prefix }),
});

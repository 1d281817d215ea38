/** Checks what is to become a prompt version, against the backbone. */
import type { Engine } from "../engine/engine.ts";
import { isTrained, readPromptFile } from "../prompt/file.ts";
import { shownPieces } from "../prompt/shown.ts";
import type { NewPrompt, Registry } from "./registry.ts";

const identity = (engine: Engine) => {
  const { name, fingerprint } = engine.backbone();
  return { name, fingerprint };
};

export async function hardPrompt(engine: Engine, template: string, name: string | null): Promise<NewPrompt> {
  const backbone = identity(engine);
  const { length } = await engine.inspect({ template, parameters: null });
  return {
    name,
    kind: "hard",
    template,
    parameters: null,
    length,
    bytes: 0,
    backbone,
    parent: null,
    recipe: null,
    metrics: null,
  };
}

/** A prompt file, which is kept as a blob before the record that names it. */
export async function trainedPrompt(
  engine: Engine,
  registry: Registry,
  bytes: Uint8Array,
): Promise<NewPrompt> {
  const backbone = identity(engine);
  const file = readPromptFile(bytes);
  const { kind, template, recipe, verbalizers } = file;
  const { length, softLengths } = await engine.inspect({ template, parameters: bytes });
  const parameters = await registry.putBlob(bytes);
  return {
    name: null,
    kind,
    template,
    ...(verbalizers && { verbalizers }),
    parameters,
    // Kept with the record, so that a list reads no parameters.
    pieces: shownPieces(file, softLengths),
    length,
    bytes: isTrained(file) ? bytes.byteLength : 0,
    backbone,
    parent: null,
    recipe,
    metrics: null,
  };
}

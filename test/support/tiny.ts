/** The random checkpoints of fixtures/reference/tiny as backbones that can be served: with a tokenizer of 96 tokens. */
import { copyFile, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

const fixtures = fileURLToPath(new URL("../fixtures", import.meta.url));

export interface TinyBackbone {
  path: string;
  remove(): Promise<void>;
}

/** `bos`: whether the tokenizer puts `<s>` before a text; `changes`: to its config.json. */
export async function tinyBackbone(name: string, bos: boolean, changes: object = {}): Promise<TinyBackbone> {
  const path = await mkdtemp(join(tmpdir(), `foreword-tiny-${name}-`));
  const checkpoint = join(fixtures, "reference/tiny", name);
  await copyFile(join(checkpoint, "model.safetensors"), join(path, "model.safetensors"));
  const config = JSON.parse(await readFile(join(checkpoint, "config.json"), "utf8"));
  await writeFile(join(path, "config.json"), JSON.stringify({ ...config, ...changes }));
  await copyFile(join(fixtures, "peft", `tokenizer${bos ? "-bos" : ""}.json`), join(path, "tokenizer.json"));
  const special = { tokenizer_class: "PreTrainedTokenizerFast", bos_token: "<s>", eos_token: "</s>" };
  await writeFile(join(path, "tokenizer_config.json"), JSON.stringify(special));
  return { path, remove: () => rm(path, { recursive: true, force: true }) };
}

/** Prompt versions from adapters of PEFT, and as such. */
import type { Readable } from "node:stream";
import { ZipFile } from "yazl";
import type { PromptRecord } from "../contract/prompt.ts";
import { contentOf } from "../jobs/contents.ts";
import { readPromptFile, writePromptFile } from "../prompt/file.ts";
import { type PeftUpload, readPeft } from "../prompt/peft/read.ts";
import { type PeftFiles, writePeftPrefix, writePeftPrompt } from "../prompt/peft/write.ts";
import { compileTemplate } from "../prompt/template.ts";
import { trainedPrompt } from "../registry/new-prompt.ts";
import type { NewPrompt } from "../registry/registry.ts";
import type { Dependencies } from "./dependencies.ts";
import { checkCompatible } from "./views.ts";

type Given = Pick<Dependencies, "engine" | "registry">;

/** Throws as `readPeft` does. */
export async function adaptedPrompt({ engine, registry }: Given, upload: PeftUpload): Promise<NewPrompt> {
  return trainedPrompt(engine, registry, writePromptFile(readPeft(upload, engine.backbone())));
}

/** Throws `not_expressible`, and `backbone_mismatch` where the prompt belongs to another backbone. */
export async function adapterOf(
  { engine, registry }: Given,
  record: PromptRecord,
  type: "PREFIX_TUNING" | "PROMPT_TUNING",
): Promise<PeftFiles> {
  checkCompatible(record, engine);
  const content = await contentOf(registry, record.task, record.version);
  const template = compileTemplate(record.template);
  const backbone = engine.backbone();
  if (type === "PROMPT_TUNING") {
    const file = content.parameters ? readPromptFile(content.parameters) : {};
    return writePeftPrompt(record, file, template, backbone);
  }
  return writePeftPrefix(record, template, await engine.prefix(content), backbone);
}

/** The same files are the same archive. */
export function archive(files: PeftFiles, created: string): Readable {
  const zip = new ZipFile();
  const mtime = new Date(created);
  // Numbers do not get shorter.
  for (const [name, bytes] of Object.entries(files))
    zip.addBuffer(Buffer.from(bytes), name, { mtime, compress: name !== "adapter_model.safetensors" });
  zip.end();
  return zip.outputStream as Readable;
}

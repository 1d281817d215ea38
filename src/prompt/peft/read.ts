/** An adapter of PEFT becomes a prompt file; `tensors.ts` has the layouts, `template.ts` where the prompt stands. */
import { ForewordError, invalid } from "../../errors.ts";
import type { PromptFile } from "../file.ts";
import { type PeftConfig, readPeftConfig } from "./config.ts";
import { peftTemplate, templateKey } from "./template.ts";
import { type PeftBackbone, readPeftTensors } from "./tensors.ts";

/** What a caller sends. */
export interface PeftUpload {
  /** adapter_config.json */
  config: Uint8Array;
  /** adapter_model.safetensors */
  tensors: Uint8Array;
  template?: string;
  /** Which task of a multitask prompt, from 0. */
  taskIndex?: number;
}

/**
 * Throws `validation` (a configuration or a field that cannot be followed), `backbone_mismatch` (another model's sizes),
 * `bad_tensor` (tensors that are not as the configuration says, or not finite) and `bad_template`.
 */
export function readPeft(upload: PeftUpload, backbone: PeftBackbone): PromptFile {
  const config = readPeftConfig(upload.config);
  checkSizes(config, backbone);
  const task = taskOf(config, upload.taskIndex);
  const { parameters, metadata } = readPeftTensors(upload.tensors, config, backbone, task ?? 0);
  const template = peftTemplate({
    asked: upload.template,
    written: metadata[templateKey],
    slot: "soft" in parameters ? config.num_virtual_tokens : null,
    bos: backbone.bos,
  });
  const { peft_type, peft_version = null, base_model_name_or_path = null, revision = null } = config;
  const recipe = { method: "peft", peft_type, peft_version, base_model_name_or_path, revision };
  return {
    kind: "soft" in parameters ? "soft" : "prefix",
    template,
    backbone: backbone.fingerprint,
    recipe: task === null ? recipe : { ...recipe, task_index: task },
    ...parameters,
  };
}

/** The sizes that PEFT takes from its model are the only sign of which model that was. */
function checkSizes(config: PeftConfig, { name, fingerprint, ...sizes }: PeftBackbone): void {
  const prefix = config.peft_type === "PREFIX_TUNING";
  const wanted = {
    num_layers: sizes.layers,
    num_attention_heads: prefix ? sizes.kv_heads : sizes.heads,
    token_dim: prefix ? sizes.kv_heads * sizes.head_dim : sizes.hidden,
  };
  for (const key of Object.keys(wanted) as (keyof typeof wanted)[]) {
    if ((config[key] ?? wanted[key]) === wanted[key]) continue;
    const base = config.base_model_name_or_path ?? null;
    throw new ForewordError(
      "backbone_mismatch",
      `adapter_config.json: ${key} is ${config[key]}, where the backbone ${name} makes it ${wanted[key]}. The adapter belongs to another model${base ? `, ${base}` : ""}: serve that one, or train for this one.`,
      { field: key, prompt: base, backbone: fingerprint },
    );
  }
}

function taskOf({ peft_type, num_tasks }: PeftConfig, asked: number | undefined): number | null {
  const refuse = (detail: string): never => {
    throw invalid("task_index", detail);
  };
  if (peft_type !== "MULTITASK_PROMPT_TUNING")
    return asked === undefined ? null : refuse(`${peft_type} has one task alone. Leave it out.`);
  const tasks = num_tasks ?? 1;
  if (asked === undefined)
    return tasks === 1 ? 0 : refuse(`the prompt has ${tasks} tasks. Say which, 0 to ${tasks - 1}.`);
  return asked < tasks
    ? asked
    : refuse(`${asked} is none of the prompt's ${tasks} tasks, 0 to ${tasks - 1}.`);
}

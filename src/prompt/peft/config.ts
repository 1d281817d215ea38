/** PEFT's adapter_config.json of the methods that are prompts (peft 0.21: the dataclasses under `peft.tuners`). */
import { type Static, Type } from "typebox";
import { Value } from "typebox/value";
import { ForewordError } from "../../errors.ts";

export const peftTypes = ["PROMPT_TUNING", "P_TUNING", "PREFIX_TUNING", "MULTITASK_PROMPT_TUNING"] as const;
export type PeftType = (typeof peftTypes)[number];

const Nullable = <Schema extends Parameters<typeof Type.Union>[0][number]>(schema: Schema) =>
  Type.Optional(Type.Union([schema, Type.Null()]));
const Count = Type.Integer({ minimum: 1 });

/** What is left out or null, PEFT takes from the model; keys that are not here change nothing about a prompt. */
const PeftConfig = Type.Object({
  peft_type: Type.Enum(peftTypes),
  task_type: Nullable(Type.String()),
  num_virtual_tokens: Count,
  /** The width of a virtual token; of prefixes, key/value heads times their dimension. */
  token_dim: Nullable(Count),
  /** For prefixes these are the key/value heads. */
  num_attention_heads: Nullable(Count),
  num_layers: Nullable(Count),
  /** 2 where a prompt goes before an encoder and a decoder. */
  num_transformer_submodules: Nullable(Count),
  num_tasks: Nullable(Count),
  num_ranks: Nullable(Count),
  prefix_projection: Nullable(Type.Boolean()),
  inference_mode: Nullable(Type.Boolean()),
  modules_to_save: Nullable(Type.Array(Type.String())),
  base_model_name_or_path: Nullable(Type.String()),
  revision: Nullable(Type.String()),
  peft_version: Nullable(Type.String()),
});
export type PeftConfig = Static<typeof PeftConfig>;

/** Throws `validation`, with the key in `field`, for all that is not a decoder's prompt. */
export function readPeftConfig(bytes: Uint8Array): PeftConfig {
  const json = parse(bytes);
  const { peft_type } = json;
  if (!peftTypes.some(each => each === peft_type))
    throw invalid(
      "peft_type",
      `is ${JSON.stringify(peft_type ?? null)}; ${peftTypes.join(", ")} are taken. Other methods change the model itself, which all tasks share: merge them into a backbone of their own.`,
    );
  if (!Value.Check(PeftConfig, json)) {
    const [error] = Value.Errors(PeftConfig, json);
    const missing = error?.keyword === "required" ? error.params.requiredProperties[0] : undefined;
    const key = missing ?? error?.instancePath.slice(1).split("/")[0] ?? "";
    throw invalid(key, missing ? "is missing. PEFT writes it." : describe(json[key]));
  }
  checkUse(json);
  return json;
}

function parse(bytes: Uint8Array): Record<string, unknown> {
  try {
    const json = JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(bytes));
    if (typeof json === "object" && json !== null && !Array.isArray(json)) return json;
  } catch {
    // Said below.
  }
  throw new ForewordError(
    "validation",
    "adapter_config.json is no JSON object in UTF-8. Send the file that PEFT's save_pretrained wrote.",
    { field: "adapter_config.json" },
  );
}

const describe = (value: unknown): string =>
  typeof value === "number"
    ? `is ${value}; it must be a whole number, at least 1.`
    : `is ${JSON.stringify(value)}, which is not what PEFT writes there.`;

function checkUse(config: PeftConfig): void {
  const { task_type, num_transformer_submodules, modules_to_save, inference_mode } = config;
  if (task_type && task_type !== "CAUSAL_LM")
    throw invalid(
      "task_type",
      `is ${task_type}; the backbone is a causal language model. Train with CAUSAL_LM.`,
    );
  if ((num_transformer_submodules ?? 1) !== 1)
    throw invalid(
      "num_transformer_submodules",
      `is ${num_transformer_submodules}: the prompt is for an encoder and a decoder, the backbone has a decoder alone.`,
    );
  if (modules_to_save?.length)
    throw invalid(
      "modules_to_save",
      `names ${modules_to_save.join(", ")}: weights of the model were trained with the prompt, and it says nothing without them. Train the prompt alone.`,
    );
  const encoded = config.peft_type === "P_TUNING" || config.prefix_projection;
  if (inference_mode === false && encoded)
    throw invalid(
      "inference_mode",
      `is false, so the embeddings may be what ${config.peft_type}'s encoder starts from instead of what it gives. Write both files with the model's save_pretrained(), which runs the encoder and says true.`,
    );
}

function invalid(key: string, what: string): ForewordError {
  return new ForewordError("validation", `adapter_config.json: ${key} ${what}`, { field: key });
}

/** A prompt as an adapter that `PeftModel.from_pretrained` loads: files by name, with a README.md that tells the rest. */
import { ForewordError } from "../../errors.ts";
import { writeSafetensors } from "../../tensor/safetensors.ts";
import type { PrefixParameters, PromptFile, SoftParameters } from "../file.ts";
import { writesBos } from "../layout.ts";
import { type CompiledTemplate, hasSlots, type TemplatePiece } from "../template.ts";
import type { PeftType } from "./config.ts";
import { templateKey } from "./template.ts";
import { type PeftBackbone, prefixRows } from "./tensors.ts";

/** The files of an archive, in this order. */
export type PeftFiles = Record<"adapter_config.json" | "adapter_model.safetensors" | "README.md", Uint8Array>;

/** What the README names. */
export interface PeftOrigin {
  task: string;
  version: number;
  recipe: unknown;
}

/**
 * PREFIX_TUNING of any prompt: `prefix` is all that stands before the first field, compiled. Throws `not_expressible`
 * where nothing stands there, and where virtual tokens stand behind a field.
 */
export function writePeftPrefix(
  origin: PeftOrigin,
  template: CompiledTemplate,
  prefix: PrefixParameters,
  backbone: PeftBackbone,
): PeftFiles {
  const [, kvHeads, length, headDim] = prefix.dims;
  const behind = template.pieces.slice(template.pieces.findIndex(piece => piece.kind === "field"));
  if (hasSlots({ pieces: behind }))
    throw inexpressible(
      "It has virtual tokens behind a field, and PEFT's prompts stand before the whole text.",
    );
  if (length === 0)
    throw inexpressible("Nothing stands before its first field, so there are no keys and values.");
  const width = kvHeads * headDim;
  const rest = spell(behind);
  return files(origin, backbone, rest, {
    config: {
      peft_type: "PREFIX_TUNING",
      num_virtual_tokens: length,
      token_dim: width,
      num_attention_heads: kvHeads,
      encoder_hidden_size: width,
      prefix_projection: false,
    },
    embeddings: prefixRows(prefix),
    tokens: rest,
  });
}

/**
 * PROMPT_TUNING of a soft prompt whose one slot stands before everything. Throws `not_expressible` for any other, a BOS
 * that comes first among them.
 */
export function writePeftPrompt(
  origin: PeftOrigin,
  { soft, prefix, bases }: Pick<PromptFile, "soft" | "prefix" | "bases">,
  template: CompiledTemplate,
  backbone: PeftBackbone,
): PeftFiles {
  const slots = template.pieces.filter(piece => piece.kind === "soft");
  const other = "Ask for PREFIX_TUNING.";
  if (!soft || prefix || bases || slots.length !== 1 || template.pieces[0] !== slots[0])
    throw inexpressible(
      `PROMPT_TUNING is one run of virtual tokens before the whole text; this prompt is not such a one. ${other}`,
    );
  if (backbone.bos !== null && !writesBos(template, { bosText: backbone.bos }))
    throw inexpressible(
      `The backbone's ${backbone.bos} stands before its virtual tokens, and nothing stands before those of PROMPT_TUNING. ${other}`,
    );
  const rest = spell(template.pieces.slice(1));
  return files(origin, backbone, `{{ soft(${soft.dims[0]}) }}${rest}`, {
    config: {
      peft_type: "PROMPT_TUNING",
      num_virtual_tokens: soft.dims[0],
      token_dim: backbone.hidden,
      num_attention_heads: backbone.heads,
      prompt_tuning_init: "RANDOM",
      prompt_tuning_init_text: null,
      tokenizer_name_or_path: null,
    },
    embeddings: soft.data,
    tokens: rest,
  });
}

interface Written {
  config: { peft_type: PeftType; num_virtual_tokens: number; [key: string]: unknown };
  embeddings: SoftParameters["data"];
  /** What is tokenised and fed behind the prompt. */
  tokens: string;
}

function files(
  origin: PeftOrigin,
  backbone: PeftBackbone,
  template: string,
  { config, embeddings, tokens }: Written,
): PeftFiles {
  const { base_model_name_or_path = null, revision = null } = (origin.recipe ?? {}) as Record<
    string,
    unknown
  >;
  const json = {
    auto_mapping: null,
    base_model_name_or_path,
    revision,
    task_type: "CAUSAL_LM",
    inference_mode: true,
    num_layers: backbone.layers,
    num_transformer_submodules: 1,
    modules_to_save: null,
    ...config,
  };
  const length = config.num_virtual_tokens;
  const text = (content: string) => new TextEncoder().encode(content);
  return {
    "adapter_config.json": text(`${JSON.stringify(json, null, 2)}\n`),
    "adapter_model.safetensors": writeSafetensors(
      [{ name: "prompt_embeddings", dims: [length, embeddings.length / length], data: embeddings }],
      { format: "pt", [templateKey]: template },
    ),
    "README.md": text(readme(origin, backbone, config, tokens)),
  };
}

function readme(
  { task, version }: PeftOrigin,
  { name, fingerprint, layers, hidden }: PeftBackbone,
  { peft_type, num_virtual_tokens }: Written["config"],
  tokens: string,
): string {
  return `# ${task}, version ${version}

A prompt of Foreword as ${peft_type} with ${num_virtual_tokens} virtual tokens, for the backbone ${name}
(${layers} layers, hidden size ${hidden}, fingerprint ${fingerprint}).

    model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), folder)

The adapter holds what stands before the first field. Behind it comes this text, with each {{ field }} replaced:

\`\`\`\`\`\`
${tokens}
\`\`\`\`\`\`

The same numbers as Foreword's come from the same ids: tokenise the text between two fields and each field's own text
one by one, with add_special_tokens=False, since a beginning-of-text token that belongs there is in the adapter or in
the text above. White space before a field is tokenised with the field. A tokenizer that puts a space before a text
(SentencePiece's do) does so before the first text alone. A label's probability is that of its verbalizer behind the
text.
`;
}

/** Words and fields as a template again. */
function spell(pieces: readonly TemplatePiece[]): string {
  return pieces
    .map(piece => {
      if (piece.kind === "soft") return "";
      return piece.kind === "literal" ? piece.text : `${piece.lead}{{ ${piece.name} }}`;
    })
    .join("");
}

function inexpressible(detail: string): ForewordError {
  return new ForewordError("not_expressible", detail);
}

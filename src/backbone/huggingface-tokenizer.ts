import { type Json, readJson, readText } from "./json-file.ts";
import type { TokenizerFiles } from "./source.ts";

/** What a Hugging Face directory says about its tokenizer; null without a tokenizer.json. */
export async function huggingFaceTokenizer(directory: string): Promise<TokenizerFiles | null> {
  const tokenizer = await readJson(directory, "tokenizer.json");
  if (tokenizer === null) return null;
  const config = (await readJson(directory, "tokenizer_config.json")) ?? {};
  const model = (await readJson(directory, "config.json")) ?? {};
  const generation = (await readJson(directory, "generation_config.json")) ?? {};
  const idOf = (token: unknown) => tokenId(tokenizer, token);
  // The tokenizer's own end comes first: in a chat model it ends a turn, the model's may end a document.
  const ends = [idOf(config.eos_token), generation.eos_token_id, model.eos_token_id].flat().filter(isId);
  return {
    tokenizer,
    config,
    chatTemplate: (await readText(directory, "chat_template.jinja")) ?? chatTemplate(config.chat_template),
    addBos: addsBos(tokenizer, config),
    bosTokenId: [idOf(config.bos_token), generation.bos_token_id, model.bos_token_id].find(isId) ?? null,
    eosTokenIds: [...new Set(ends)],
  };
}

const isId = (value: unknown): value is number => Number.isSafeInteger(value) && (value as number) >= 0;

const isObject = (value: unknown): value is Json => typeof value === "object" && value !== null;

/** A special token is written as its text or as `{content}`; its id is among the added tokens or in the vocabulary. */
function tokenId(tokenizer: Json, token: unknown): unknown {
  const text = isObject(token) ? token.content : token;
  if (typeof text !== "string") return undefined;
  const added = Array.isArray(tokenizer.added_tokens) ? tokenizer.added_tokens : [];
  const found = added.find(each => isObject(each) && each.content === text);
  if (found) return found.id;
  const vocabulary = isObject(tokenizer.model) ? tokenizer.model.vocab : undefined;
  return isObject(vocabulary) && Object.hasOwn(vocabulary, text) ? vocabulary[text] : undefined;
}

/** A text, or a list of named ones of which "default" counts. */
function chatTemplate(value: unknown): string | null {
  if (typeof value === "string") return value;
  if (!Array.isArray(value)) return null;
  const found = value.find(each => isObject(each) && each.name === "default");
  return typeof found?.template === "string" ? found.template : null;
}

/** The switch where there is one, else whether the post-processor puts a special token first. */
function addsBos(tokenizer: Json, config: Json): boolean {
  if (typeof config.add_bos_token === "boolean") return config.add_bos_token;
  const top = tokenizer.post_processor;
  if (!isObject(top)) return false;
  const steps = Array.isArray(top.processors) ? top.processors : [top];
  const template = steps.find(step => isObject(step) && step.type === "TemplateProcessing");
  const first = isObject(template) && Array.isArray(template.single) ? template.single[0] : undefined;
  return isObject(first) && isObject(first.SpecialToken);
}

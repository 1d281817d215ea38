/** Text to token ids and back, over `@huggingface/tokenizers`; chat templates over `@huggingface/jinja`. */
import { Template } from "@huggingface/jinja";
import { Tokenizer as Library } from "@huggingface/tokenizers";
import { ForewordError } from "../errors.ts";
import type { TokenizerFiles } from "./source.ts";

export interface Message {
  role: string;
  content: string;
}

/** What a decoder shows for bytes that are no character yet. */
const INCOMPLETE = "\uFFFD";

export class Tokenizer {
  /** Knows the special tokens. */
  readonly #full: Library;
  /** Knows none: whatever a text says, it stays text. */
  readonly #plain: Library;
  readonly #files: TokenizerFiles;
  /** Parsed when it is first wanted: few prompts have messages. */
  #chat: Template | null = null;
  #longest: number | null = null;
  /** The token that stands first, where the tokenizer adds one. */
  readonly bosId: number | null;
  readonly bosText: string | null;
  /** The tokens that end an answer; the first is the one that Y ends with. */
  readonly eosIds: readonly number[];

  private constructor(files: TokenizerFiles) {
    const config = { ...files.config, clean_up_tokenization_spaces: false };
    this.#files = files;
    this.#full = new Library(files.tokenizer, config);
    this.#plain = new Library({ ...files.tokenizer, added_tokens: [] }, withoutTokens(config));
    this.bosId = files.addBos ? files.bosTokenId : null;
    this.bosText = this.bosId === null ? null : (this.#full.id_to_token(this.bosId) ?? null);
    this.eosIds = files.eosTokenIds;
  }

  /** Throws `bad_backbone` where the files describe no tokenizer of a backbone with `vocabSize` tokens. */
  static from(files: TokenizerFiles, vocabSize: number): Tokenizer {
    const known = within(files, vocabSize);
    if (known.eosTokenIds.length === 0)
      throw bad("The tokenizer names no end-of-text token. Set eos_token in tokenizer_config.json.");
    try {
      return new Tokenizer(known);
    } catch (error) {
      throw bad(
        `The tokenizer's files describe none: ${(error as Error).message}. Download the backbone again, or choose another.`,
      );
    }
  }

  /** Ids of a text; `<|im_end|>` in it is eight plain characters. No BOS. */
  encode(text: string): number[] {
    return text === "" ? [] : this.#plain.encode(text, { add_special_tokens: false }).ids;
  }

  /** Ids of a template's words: chat markers become their own ids. No BOS. */
  encodeWithSpecials(text: string): number[] {
    return text === "" ? [] : this.#full.encode(text, { add_special_tokens: false }).ids;
  }

  decode(ids: readonly number[], { skipSpecial }: { skipSpecial: boolean }): string {
    return ids.length === 0 ? "" : this.#full.decode([...ids], { skip_special_tokens: skipSpecial });
  }

  /** Raw tokens by id, as the vocabulary spells them; ids that it leaves out are empty. */
  vocabulary(size: number): string[] {
    return Array.from({ length: size }, (_, id) => this.#full.id_to_token(id) ?? "");
  }

  /** Characters of the longest token, as the vocabulary spells it: no text has more for each of its tokens. */
  get longest(): number {
    if (this.#longest === null) {
      this.#longest = 1;
      for (const token of this.#full.get_vocab().keys())
        this.#longest = Math.max(this.#longest, token.length);
    }
    return this.#longest;
  }

  /** How the vocabulary spells bytes: GPT-2's byte alphabet, or `<0x0A>` pieces. */
  get vocabularyType(): "byte_level" | "byte_fallback" {
    const { model } = this.#files.tokenizer as { model?: { byte_fallback?: boolean } };
    return model?.byte_fallback ? "byte_fallback" : "byte_level";
  }

  /** Text of tokens as they come, complete characters only. */
  stream(): { push(token: number): string; end(): string } {
    // Decoders treat a text's first token apart, so the last token that was shown stays as context.
    let window: number[] = [];
    let shown = "";
    const advance = (final: boolean): string => {
      let text = this.decode(window, { skipSpecial: true });
      if (!final && text.endsWith(INCOMPLETE)) return "";
      // A character that a limit cut in halves is left out.
      while (text.length > shown.length && text.endsWith(INCOMPLETE)) text = text.slice(0, -1);
      const fresh = text.slice(shown.length);
      window = window.slice(-1);
      shown = this.decode(window, { skipSpecial: true });
      return fresh;
    };
    return {
      push: token => {
        window.push(token);
        return advance(false);
      },
      end: () => advance(true),
    };
  }

  /** The chat template's text. Throws `bad_template` where the backbone has none, or where it refuses the messages. */
  renderChat(
    messages: readonly Message[],
    { addGenerationPrompt }: { addGenerationPrompt: boolean },
  ): string {
    this.#chat ??= chatTemplate(this.#files.chatTemplate);
    const token = (id: number | null) => (id === null ? "" : this.#full.id_to_token(id));
    try {
      return this.#chat.render({
        messages: messages.map(message => ({ ...message })),
        add_generation_prompt: addGenerationPrompt,
        bos_token: token(this.#files.bosTokenId),
        eos_token: token(this.eosIds[0]!),
      });
    } catch (error) {
      throw new ForewordError(
        "validation",
        `The backbone's chat template refuses these messages: ${(error as Error).message}`,
        { field: "messages" },
      );
    }
  }
}

const bad = (detail: string) => new ForewordError("bad_backbone", detail);

function chatTemplate(source: string | null): Template {
  const refused = (why: string) =>
    new ForewordError(
      "bad_template",
      `This backbone ${why}, so the field "messages" cannot be rendered. Use a template with text fields.`,
    );
  if (source === null) throw refused("has no chat template");
  try {
    return new Template(source);
  } catch (error) {
    throw refused(`has a chat template that does not parse (${(error as Error).message})`);
  }
}

/**
 * The files as the library should read them. A token that the backbone's table has no row for stays text: fed, it would
 * end the run of everybody's rows. The library knows Unicode's numbers as digits only where they are a class.
 */
function within(files: TokenizerFiles, vocabSize: number): TokenizerFiles {
  const { tokenizer, bosTokenId, addBos } = files;
  const { added_tokens = [], pre_tokenizer } = tokenizer as {
    added_tokens?: { id: number }[];
    pre_tokenizer?: unknown;
  };
  const has = (id: number) => id < vocabSize;
  if (addBos && bosTokenId !== null && !has(bosTokenId))
    throw bad(`The tokenizer begins texts with token ${bosTokenId}, and the backbone has ${vocabSize}.`);
  return {
    ...files,
    tokenizer: {
      ...tokenizer,
      added_tokens: added_tokens.filter(({ id }) => has(id)),
      pre_tokenizer: withDigits(pre_tokenizer ?? null),
    },
    eosTokenIds: files.eosTokenIds.filter(has),
  };
}

/** `Digits` is every number of Unicode (Rust's `is_numeric`); the library's own is 0 to 9. */
function withDigits(preTokenizer: unknown): unknown {
  const { type, individual_digits, pretokenizers } = (preTokenizer ?? {}) as {
    type?: string;
    individual_digits?: boolean;
    pretokenizers?: unknown[];
  };
  if (type === "Sequence") return { type, pretokenizers: pretokenizers!.map(withDigits) };
  if (type !== "Digits") return preTokenizer;
  const pattern = { Regex: individual_digits ? "\\p{N}" : "\\p{N}+" };
  return { type: "Split", pattern, behavior: "Isolated", invert: false };
}

/** tokenizer_config.json may name special tokens as well. */
function withoutTokens(config: object): object {
  const { added_tokens_decoder, additional_special_tokens, ...rest } = config as Record<string, unknown>;
  return rest;
}

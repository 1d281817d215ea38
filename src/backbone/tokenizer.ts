/** Text to token ids and back, over `@huggingface/tokenizers`; chat templates over `@huggingface/jinja`. */
import { isDeepStrictEqual } from "node:util";
import { Template } from "@huggingface/jinja";
import { Tokenizer as Library } from "@huggingface/tokenizers";
import { ForewordError } from "../errors.ts";
import { badBackbone } from "./settings.ts";
import type { BackboneSource, TokenizerFiles } from "./source.ts";
import { continuing, plainly, within } from "./tokenizer-files.ts";

export interface Message {
  role: string;
  content: string;
}

/** What a decoder shows for bytes that are no character yet. */
const INCOMPLETE = "\uFFFD";

interface Libraries {
  /** Knows special tokens and the chat template's. */
  full: Library;
  /** Knows neither: whatever a text says, it stays text. */
  plain: Library;
}

export class Tokenizer {
  /** For text that follows other text. */
  readonly #within: Libraries;
  /** For the first text, before which some tokenizers put a space. */
  readonly #first: Libraries;
  readonly #files: TokenizerFiles;
  /** Parsed when it is first wanted: few prompts have messages. */
  #chat: Template | null = null;
  /** The token that stands first, where the tokenizer adds one. */
  readonly bosId: number | null;
  readonly bosText: string | null;
  /** The tokens that end an answer; the first is the one that Y ends with. */
  readonly eosIds: readonly number[];

  private constructor(files: TokenizerFiles) {
    const config = { ...files.config, clean_up_tokenization_spaces: false };
    const { tokenizer, chatTemplate } = files;
    this.#files = files;
    const further = continuing(tokenizer);
    const libraries = (of: object) => librariesOf(of, config, chatTemplate);
    this.#within = libraries(further);
    this.#first = isDeepStrictEqual(further, tokenizer) ? this.#within : libraries(tokenizer);
    this.bosId = files.addBos ? files.bosTokenId : null;
    this.bosText = this.bosId === null ? null : (this.#full.id_to_token(this.bosId) ?? null);
    this.eosIds = files.eosTokenIds;
  }

  /** Throws `bad_backbone` where the files describe no tokenizer of a backbone with `vocabSize` tokens. */
  static from(files: TokenizerFiles, vocabSize: number): Tokenizer {
    try {
      return new Tokenizer(within(files, vocabSize));
    } catch (error) {
      if (error instanceof ForewordError) throw error;
      return badBackbone(
        `The tokenizer's files describe none: ${(error as Error).message}. Download the backbone again, or choose another.`,
        error,
      );
    }
  }

  get #full(): Library {
    return this.#within.full;
  }

  /** Ids of a text; `<|im_end|>` in it is eight plain characters. No BOS. `first`: nothing was said before it. */
  encode(text: string, { first = false } = {}): number[] {
    const { plain } = first ? this.#first : this.#within;
    return text === "" ? [] : plain.encode(text, { add_special_tokens: false }).ids;
  }

  /** Ids of a template's words: chat markers become their own ids. No BOS. */
  encodeWithSpecials(text: string, { first = false } = {}): number[] {
    const { full } = first ? this.#first : this.#within;
    return text === "" ? [] : full.encode(text, { add_special_tokens: false }).ids;
  }

  decode(ids: readonly number[], { skipSpecial }: { skipSpecial: boolean }): string {
    return ids.length === 0 ? "" : this.#full.decode([...ids], { skip_special_tokens: skipSpecial });
  }

  /** Raw tokens by id, as the vocabulary spells them; ids that it leaves out are empty. */
  vocabulary(size: number): string[] {
    return Array.from({ length: size }, (_, id) => this.#full.id_to_token(id) ?? "");
  }

  /** Tokens that stand for no text: `decode` leaves them out where special ones are skipped. */
  get specialIds(): number[] {
    const { additional_special_tokens } = this.#files.config as { additional_special_tokens?: string[] };
    const named = (additional_special_tokens ?? []).flatMap(text => this.#full.token_to_id(text) ?? []);
    const ids = new Set([...this.#full.get_added_tokens_decoder().keys(), ...named]);
    return [...ids].filter(id => this.decode([id], { skipSpecial: true }) === "");
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

  /** The chat template's text. Throws `bad_template` where the backbone has none, `validation` where it refuses the messages. */
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

/** Throws `bad_backbone` where the backbone comes without one. */
export async function tokenizerOf(source: BackboneSource): Promise<Tokenizer> {
  const files = await source.tokenizerFiles();
  return files
    ? Tokenizer.from(files, source.config.vocabSize)
    : badBackbone(`${source.name} has no tokenizer.json. Add the tokenizer's files to the directory.`);
}

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

const librariesOf = (tokenizer: object, config: object, chatTemplate: string | null): Libraries => ({
  full: new Library(tokenizer, config),
  plain: new Library(plainly(tokenizer, chatTemplate), withoutTokens(config)),
});

/** tokenizer_config.json may name special tokens as well. */
function withoutTokens(config: object): object {
  const { added_tokens_decoder, additional_special_tokens, ...rest } = config as Record<string, unknown>;
  return rest;
}

/** A tokenizer.json as the library should read it. */
import { badBackbone, show } from "./settings.ts";
import type { TokenizerFiles } from "./source.ts";

type Scored = [text: string, score: number];

interface Model {
  /** Number by text, or, of Unigram, text and score by number. */
  vocab?: Record<string, unknown> | Scored[];
  /** Pairs, which older files write with a space between. */
  merges?: (string | [string, string])[];
  unk_token?: string | null;
}

interface AddedToken {
  id: number;
  content: string;
  special?: boolean;
}

/**
 * The files as the library should read them. A token that the backbone's table has no row for stays text: fed, it would
 * end the run of everybody's rows. A tokenizer whose model makes such a token belongs to another backbone.
 */
export function within(files: TokenizerFiles, vocabSize: number): TokenizerFiles {
  const { tokenizer, bosTokenId, addBos } = files;
  const {
    added_tokens = [],
    pre_tokenizer,
    model,
  } = tokenizer as { added_tokens?: AddedToken[]; pre_tokenizer?: Step | null; model?: Model };
  const has = (id: unknown) => Number.isInteger(id) && 0 <= (id as number) && (id as number) < vocabSize;
  if (addBos && bosTokenId !== null && !has(bosTokenId))
    badBackbone(`The tokenizer begins texts with token ${bosTokenId}, and the backbone has ${vocabSize}.`);
  const eosTokenIds = files.eosTokenIds.filter(has);
  if (eosTokenIds.length === 0)
    badBackbone("The tokenizer names no end-of-text token. Set eos_token in tokenizer_config.json.");
  const stray = wordsOf(model).find(([, id]) => !has(id));
  if (stray)
    badBackbone(
      `The tokenizer numbers ${show(stray[0])} ${show(stray[1])}, and the backbone's tokens are 0 to ${vocabSize - 1}. Use the tokenizer that belongs to this backbone.`,
    );
  return {
    ...files,
    tokenizer: {
      ...tokenizer,
      // Whatever a file says of it, what begins or ends a text is no word.
      added_tokens: added_tokens
        .filter(({ id }) => has(id))
        .map(token =>
          token.id === bosTokenId || eosTokenIds.includes(token.id) ? { ...token, special: true } : token,
        ),
      pre_tokenizer: asInRust(pre_tokenizer ?? null),
    },
    eosTokenIds,
  };
}

/** Whether a chat template spells the token: a caller could open another turn with it. A model's thoughts are text. */
const marks = ({ content }: AddedToken, chatTemplate: string | null): boolean =>
  !/^<\/?think>$/.test(content) && content.trim() !== "" && (chatTemplate?.includes(content) ?? false);

function wordsOf({ vocab = {} }: Model = {}): [text: string, id: unknown][] {
  return Array.isArray(vocab) ? vocab.map(([text], id) => [text, id]) : Object.entries(vocab);
}

/**
 * A tokenizer.json by which no text becomes a special token, or one that the chat template spells, however it is
 * spelled: some vocabularies have those among the words. A model may write what is not special, such as `<tool_call>`,
 * and answers show it. The unknown token stays, as what no piece spells becomes it, and so do added tokens that are
 * words, such as `<think>`.
 */
export function plainly(tokenizer: object, chatTemplate: string | null): object {
  const { added_tokens, model } = tokenizer as { added_tokens: AddedToken[]; model: Model };
  const isWord = (token: AddedToken) => !token.special && !marks(token, chatTemplate);
  const markers = new Set(added_tokens.flatMap(token => (isWord(token) ? [] : token.content)));
  if (model.unk_token) markers.delete(model.unk_token);
  return { ...tokenizer, added_tokens: added_tokens.filter(isWord), model: unspelled(model, markers) };
}

function unspelled(model: Model, words: ReadonlySet<string>): Model {
  const { vocab = {}, merges } = model;
  // A word's place is its number here, so it stays, without a text: none is spelled so.
  if (Array.isArray(vocab))
    return { ...model, vocab: vocab.map(([text, score]): Scored => [words.has(text) ? "" : text, score]) };
  const joined = (pair: string | [string, string]) =>
    typeof pair === "string" ? pair.replace(" ", "") : pair.join("");
  return {
    ...model,
    vocab: Object.fromEntries(Object.entries(vocab).filter(([text]) => !words.has(text))),
    ...(merges && { merges: merges.filter(pair => !words.has(joined(pair))) }),
  };
}

type Step = Record<string, unknown> & { type?: string };

/**
 * A tokenizer.json for text that goes on behind other text. SentencePiece puts a space before a text, as the first word
 * of a document has one like all others, and takes it away again when it decodes; pieces of a prompt are no documents.
 */
export function continuing(tokenizer: object): object {
  const { normalizer, pre_tokenizer, decoder, ...rest } = tokenizer as Record<string, Step | null>;
  return {
    ...rest,
    normalizer: each(normalizer ?? null, "normalizers", step => (step.type === "Prepend" ? null : step)),
    pre_tokenizer: each(pre_tokenizer ?? null, "pretokenizers", step => {
      if (step.type === "Metaspace") return { ...step, prepend_scheme: "never" };
      return step.add_prefix_space ? { ...step, add_prefix_space: false } : step;
    }),
    decoder: each(decoder ?? null, "decoders", step => {
      if (step.type === "Strip" && step.content === " ") return null;
      if (step.type !== "Metaspace") return step;
      return { type: "Replace", pattern: { String: step.replacement ?? "▁" }, content: " " };
    }),
  };
}

/** A step, or each of a sequence's, under `list`; one that becomes null is left out. */
function each(step: Step | null, list: string, change: (step: Step) => Step | null): Step | null {
  if (step?.type !== "Sequence") return step && change(step);
  const steps = (step[list] as Step[]).map(one => each(one, list, change)).filter(one => one !== null);
  return { ...step, [list]: steps };
}

/** GPT-2's words. */
const WORDS = "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+";

export const splitBy = (pattern: string): Step => ({
  type: "Split",
  pattern: { Regex: pattern },
  behavior: "Isolated",
  invert: false,
});

/** The library takes a `Split` as Rust does; of what other steps split by, it has JavaScript's idea. */
const asInRust = (preTokenizer: Step | null): Step | null =>
  each(preTokenizer, "pretokenizers", step => {
    // Every number of Unicode (`is_numeric`); the library's are 0 to 9.
    if (step.type === "Digits") return splitBy(step.individual_digits ? "\\p{N}" : "\\p{N}+");
    // Unicode's white space, which has U+0085 and not U+FEFF; JavaScript's `\s` is the other way round.
    if (step.type === "ByteLevel" && step.use_regex !== false && !step.add_prefix_space)
      return { type: "Sequence", pretokenizers: [splitBy(WORDS), { ...step, use_regex: false }] };
    return step;
  });

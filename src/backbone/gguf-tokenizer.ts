/** A GGUF file's vocabulary as the tokenizer.json that `@huggingface/tokenizers` reads. */
import { badBackbone } from "./settings.ts";
import type { TokenizerFiles } from "./source.ts";
import { splitBy } from "./tokenizer-files.ts";

type Metadata = ReadonlyMap<string, unknown>;

/** llama.cpp's token types (`llama_token_type`). */
const UNKNOWN = 2;
const CONTROL = 3;
const USER_DEFINED = 4;

/** Words for the end of a turn or a text in the families that are supported, where the vocabulary has them as control tokens. */
const endings = ["<|im_end|>", "<|endoftext|>", "<|eot_id|>", "<|end_of_text|>", "</s>"];

const byteLevel = (useRegex: boolean) => ({
  type: "ByteLevel",
  add_prefix_space: false,
  trim_offsets: true,
  use_regex: useRegex,
});
const words =
  "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|DIGITS| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+";

interface Family {
  normalizer: object | null;
  preTokenizers: object[];
  ignoreMerges: boolean;
  /** Where the file does not say: of Llama 3 it follows from the family, as in llama.cpp. */
  addBos?: true;
}

/** `tokenizer.ggml.pre`: how text is cut before byte-pair merges, as each family's own tokenizer.json has it. */
const preTokenizers: Readonly<Record<string, Family>> = {
  "gpt-2": { normalizer: null, preTokenizers: [byteLevel(true)], ignoreMerges: false },
  smollm: {
    normalizer: null,
    preTokenizers: [{ type: "Digits", individual_digits: true }, byteLevel(true)],
    ignoreMerges: false,
  },
  "llama-bpe": {
    normalizer: null,
    preTokenizers: [splitBy(words.replace("DIGITS", "\\p{N}{1,3}")), byteLevel(false)],
    ignoreMerges: true,
    addBos: true,
  },
  qwen2: {
    normalizer: { type: "NFC" },
    preTokenizers: [splitBy(words.replace("DIGITS", "\\p{N}")), byteLevel(false)],
    ignoreMerges: false,
  },
};

/** Throws `bad_backbone` for a vocabulary or a pre-tokenizer that is not known: a guess would change every token. */
export function ggufTokenizer(metadata: Metadata): TokenizerFiles {
  const model = metadata.get("tokenizer.ggml.model");
  const { addBos = model === "llama" } = familyOf(metadata) ?? {};
  const tokens = strings(metadata, "tokenizer.ggml.tokens");
  const types = (metadata.get("tokenizer.ggml.token_type") ?? []) as ArrayLike<number>;
  const added = tokens.flatMap((content, id) =>
    types[id] === CONTROL || types[id] === USER_DEFINED
      ? [
          {
            id,
            content,
            special: types[id] === CONTROL,
            single_word: false,
            lstrip: false,
            rstrip: false,
            normalized: false,
          },
        ]
      : [],
  );
  const bosTokenId = number(metadata, "tokenizer.ggml.bos_token_id");
  const control = new Map(added.filter(token => token.special).map(token => [token.content, token.id]));
  const eos = [
    number(metadata, "tokenizer.ggml.eos_token_id"),
    number(metadata, "tokenizer.ggml.eot_token_id"),
    ...endings.map(name => control.get(name) ?? null),
  ];
  const chatTemplate = metadata.get("tokenizer.chat_template");
  return {
    tokenizer: {
      version: "1.0",
      truncation: null,
      padding: null,
      added_tokens: added,
      post_processor: null,
      ...body(model, metadata, tokens, types),
    },
    config: { clean_up_tokenization_spaces: false },
    chatTemplate: typeof chatTemplate === "string" ? chatTemplate : null,
    addBos: (metadata.get("tokenizer.ggml.add_bos_token") ?? addBos) === true,
    bosTokenId,
    eosTokenIds: [...new Set(eos.filter(id => id !== null))],
  };
}

function body(
  model: unknown,
  metadata: Metadata,
  tokens: readonly string[],
  types: ArrayLike<number>,
): object {
  if (model === "gpt2") return bytePairs(metadata, tokens);
  if (model === "llama") return sentencePieces(metadata, tokens, types);
  return refuse(`the vocabulary type ${JSON.stringify(model)}`, "gpt2 and llama");
}

const preOf = (metadata: Metadata): string => String(metadata.get("tokenizer.ggml.pre") ?? "missing");

function familyOf(metadata: Metadata): Family | undefined {
  const name = preOf(metadata);
  return Object.hasOwn(preTokenizers, name) ? preTokenizers[name] : undefined;
}

function bytePairs(metadata: Metadata, tokens: readonly string[]): object {
  const pre =
    familyOf(metadata) ??
    refuse(`the pre-tokenizer ${JSON.stringify(preOf(metadata))}`, Object.keys(preTokenizers).join(", "));
  return {
    normalizer: pre.normalizer,
    pre_tokenizer: { type: "Sequence", pretokenizers: pre.preTokenizers },
    decoder: byteLevel(true),
    model: {
      type: "BPE",
      vocab: ids(tokens),
      merges: strings(metadata, "tokenizer.ggml.merges"),
      unk_token: null,
      fuse_unk: false,
      byte_fallback: false,
      ignore_merges: pre.ignoreMerges,
    },
  };
}

/** SentencePiece BPE: merges follow from the pieces' scores (as transformers' converter has it); spaces are `▁`. */
function sentencePieces(metadata: Metadata, tokens: readonly string[], types: ArrayLike<number>): object {
  const scores = metadata.get("tokenizer.ggml.scores") as ArrayLike<number> | undefined;
  if (scores?.length !== tokens.length) lacks("tokenizer.ggml.scores, a number for each token");
  const vocab = ids(tokens);
  const known = new Map(tokens.map((token, id) => [token, id]));
  const merges: { pair: [string, string]; score: number; left: number; right: number }[] = [];
  for (const [id, token] of tokens.entries()) {
    // No text becomes one of these, however it is spelled.
    if (types[id] === CONTROL || types[id] === UNKNOWN) continue;
    for (let cut = 1; cut < token.length; cut++) {
      const pair: [string, string] = [token.slice(0, cut), token.slice(cut)];
      const [left, right] = [known.get(pair[0]), known.get(pair[1])];
      if (left !== undefined && right !== undefined) merges.push({ pair, score: scores![id]!, left, right });
    }
  }
  merges.sort((a, b) => b.score - a.score || a.left - b.left || a.right - b.right);
  const unknown = number(metadata, "tokenizer.ggml.unknown_token_id");
  const prefixed = metadata.get("tokenizer.ggml.add_space_prefix") !== false;
  return {
    normalizer: {
      type: "Sequence",
      normalizers: [
        ...(prefixed ? [{ type: "Prepend", prepend: "▁" }] : []),
        { type: "Replace", pattern: { String: " " }, content: "▁" },
      ],
    },
    pre_tokenizer: null,
    decoder: {
      type: "Sequence",
      decoders: [
        { type: "Replace", pattern: { String: "▁" }, content: " " },
        { type: "ByteFallback" },
        { type: "Fuse" },
        ...(prefixed ? [{ type: "Strip", content: " ", start: 1, stop: 0 }] : []),
      ],
    },
    model: {
      type: "BPE",
      vocab,
      merges: merges.map(merge => merge.pair),
      unk_token: unknown === null ? null : tokens[unknown],
      fuse_unk: true,
      byte_fallback: true,
    },
  };
}

const ids = (tokens: readonly string[]) => Object.fromEntries(tokens.map((token, id) => [token, id]));

function strings(metadata: Metadata, key: string): string[] {
  const value = metadata.get(key);
  if (Array.isArray(value) && value.every(each => typeof each === "string")) return value;
  return lacks(`${key}, a list of texts`);
}

const lacks = (what: string): never =>
  badBackbone(`The GGUF file lacks ${what}. Download it again, or choose another.`);

function number(metadata: Metadata, key: string): number | null {
  const value = metadata.get(key);
  return value === undefined ? null : Number(value);
}

const refuse = (what: string, known: string): never =>
  badBackbone(
    `The GGUF file has ${what}, which is not supported; supported are ${known}. Use the model's Hugging Face directory instead, with its tokenizer.json.`,
  );

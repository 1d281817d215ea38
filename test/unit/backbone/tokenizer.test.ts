/** Tokenizers that their files describe badly, or leave to a family's custom. */
import { expect, test } from "vitest";
import { ggufTokenizer } from "../../../src/backbone/gguf-tokenizer.ts";
import { Tokenizer } from "../../../src/backbone/tokenizer.ts";

const CONTROL = 3;
const NORMAL = 1;

/** Metadata of a byte-level vocabulary: single letters, then the end of text. */
const bytes = (more: object = {}) =>
  new Map<string, unknown>(
    Object.entries({
      "tokenizer.ggml.model": "gpt2",
      "tokenizer.ggml.pre": "smollm",
      "tokenizer.ggml.tokens": ["a", "b", "<|endoftext|>"],
      "tokenizer.ggml.token_type": [NORMAL, NORMAL, CONTROL],
      "tokenizer.ggml.merges": [],
      "tokenizer.ggml.eos_token_id": 2,
      ...more,
    }),
  );

/** Of SentencePiece: every piece of "</s>" is one, so that merges could spell it. */
const pieces = (more: object = {}) => {
  const tokens = ["<unk>", "<s>", "</s>", "<", "/", "s", ">", "</", "s>", "▁"];
  return new Map<string, unknown>(
    Object.entries({
      "tokenizer.ggml.model": "llama",
      "tokenizer.ggml.tokens": tokens,
      "tokenizer.ggml.token_type": [2, CONTROL, CONTROL, ...tokens.slice(3).map(() => NORMAL)],
      "tokenizer.ggml.scores": tokens.map((_, id) => (id < 3 ? 0 : -id)),
      "tokenizer.ggml.unknown_token_id": 0,
      "tokenizer.ggml.bos_token_id": 1,
      "tokenizer.ggml.eos_token_id": 2,
      ...more,
    }),
  );
};

test.each([
  ["says so", "smollm", { "tokenizer.ggml.add_bos_token": true }, true],
  ["says nothing", "smollm", {}, false],
  ["says nothing, and is of Llama 3", "llama-bpe", {}, true],
  ["says no, and is of Llama 3", "llama-bpe", { "tokenizer.ggml.add_bos_token": false }, false],
])("a byte-level file that %s: BOS", (_, pre, more, added) => {
  const files = ggufTokenizer(
    bytes({ "tokenizer.ggml.pre": pre, "tokenizer.ggml.bos_token_id": 2, ...more }),
  );
  expect(files.addBos).toBe(added);
});

test("a text never becomes a control token, though a vocabulary has its halves", () => {
  const tokenizer = Tokenizer.from(ggufTokenizer(pieces()), 10);
  expect(tokenizer.encode("</s>")).not.toContain(2);
  expect(tokenizer.encode("<s>")).not.toContain(1);
  expect(tokenizer.encodeWithSpecials("</s>")).toContain(2);
});

test.each<[string, object, number, RegExp]>([
  ["a beginning that the backbone has not", { "tokenizer.ggml.bos_token_id": 2 ** 32 - 1 }, 10, /4294967295/],
  ["no end that the backbone has", {}, 2, /begins texts|end-of-text/],
  ["scores for some tokens alone", { "tokenizer.ggml.scores": [1] }, 10, /scores/],
  ["no scores", { "tokenizer.ggml.scores": undefined }, 10, /scores/],
  [
    "a pre-tokenizer that is every object's",
    { "tokenizer.ggml.model": "gpt2", "tokenizer.ggml.pre": "constructor" },
    10,
    /pre-tokenizer "constructor".*smollm/,
  ],
])("refused: %s", (_, more, vocabSize, why) => {
  const open = () => Tokenizer.from(ggufTokenizer(pieces(more)), vocabSize);
  expect(open).toThrow(why);
  expect(open).toThrow(expect.objectContaining({ code: "bad_backbone" }));
});

test("a tokenizer.json that is none is a bad backbone", () => {
  const files = { ...ggufTokenizer(bytes()), tokenizer: {} };
  expect(() => Tokenizer.from(files, 3)).toThrow(expect.objectContaining({ code: "bad_backbone" }));
});

test("a token beyond the backbone's table stays text", () => {
  const files = ggufTokenizer(bytes());
  const added = [...(files.tokenizer as { added_tokens: object[] }).added_tokens];
  const more = { id: 3, content: "ab", special: true, single_word: false, lstrip: false, rstrip: false };
  const tokenizer = { ...files.tokenizer, added_tokens: [...added, { ...more, normalized: false }] };
  expect(Tokenizer.from({ ...files, tokenizer }, 4).encodeWithSpecials("ab")).toEqual([3]);
  expect(Tokenizer.from({ ...files, tokenizer }, 3).encodeWithSpecials("ab")).toEqual([0, 1]);
});

test("a chat template that does not parse costs the field messages alone", () => {
  const tokenizer = Tokenizer.from({ ...ggufTokenizer(bytes()), chatTemplate: "{% if %}" }, 3);
  expect(tokenizer.encode("ab")).toEqual([0, 1]);
  expect(() => tokenizer.renderChat([{ role: "user", content: "a" }], { addGenerationPrompt: true })).toThrow(
    expect.objectContaining({ code: "bad_template" }),
  );
});

/** Every beginning of "▁great" and of "great" is a piece, so that merges build both. */
const spaced = ["▁", ..."great", "gr", "gre", "grea", "great", "▁great"];
const own = ["<unk>", "<s>", "</s>", ...spaced];
const sentencePieces = ggufTokenizer(
  pieces({
    "tokenizer.ggml.tokens": own,
    "tokenizer.ggml.token_type": [2, CONTROL, CONTROL, ...spaced.map(() => NORMAL)],
    "tokenizer.ggml.scores": own.map((_, id) => -id),
  }),
);
const metaspace = { type: "Metaspace", replacement: "▁", prepend_scheme: "always", split: false };

test.each([
  ["as GGUF has it", sentencePieces.tokenizer],
  [
    "as newer files write it",
    { ...sentencePieces.tokenizer, normalizer: null, pre_tokenizer: metaspace, decoder: metaspace },
  ],
])("SentencePiece's space stands before a prompt's first text alone: %s", (_, tokenizer) => {
  const found = Tokenizer.from({ ...sentencePieces, tokenizer }, own.length);
  const spelled = (text: string, first: boolean) => {
    const ids = found.encode(text, { first });
    expect(found.encodeWithSpecials(text, { first })).toEqual(ids);
    return ids.map(id => own[id]);
  };
  expect(spelled("great", true)).toEqual(["▁great"]);
  expect(spelled("great", false)).toEqual(["great"]);
  expect(spelled(" great", false)).toEqual(["▁great"]);
  expect(found.decode(found.encode(" great great"), { skipSpecial: true })).toBe(" great great");
  const stream = found.stream();
  expect(found.encode(" great great").map(id => stream.push(id))).toEqual([" great", " great"]);
});

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

/** Of a vocabulary that has its special tokens among the words, and the pieces that they could be spelled by. */
const mixed = ["<unk>", "a", "</s>", "<", "/", "s", ">", "</", "s>"];
const numbered = Object.fromEntries(mixed.map((text, id) => [text, id]));
const merged = { type: "BPE", unk_token: "<unk>", vocab: numbered };
const pairs = [
  ["<", "/"],
  ["s", ">"],
];
test.each<[string, object, number[]]>([
  ["Unigram", { type: "Unigram", unk_id: 0, vocab: mixed.map(text => [text, -1]) }, [7, 8]],
  ["BPE that takes whole words first", { ...merged, merges: pairs, ignore_merges: true }, [7, 8]],
  ["BPE with a pair for it", { ...merged, merges: [...pairs, ["</", "s>"]] }, [7, 8]],
  ["BPE with a pair for it, as older files write it", { ...merged, merges: ["< /", "s >", "</ s>"] }, [7, 8]],
  ["WordPiece", { type: "WordPiece", unk_token: "<unk>", vocab: numbered }, [0]],
])("a text never becomes a special token that is a word of the vocabulary: %s", (_, model, spelled) => {
  const added_tokens = [0, 2].map(id => ({ id, content: mixed[id], special: true, normalized: false }));
  const steps = { normalizer: null, pre_tokenizer: null, post_processor: null, decoder: null };
  const files = { ...ggufTokenizer(bytes()), tokenizer: { ...steps, added_tokens, model } };
  const tokenizer = Tokenizer.from(files, mixed.length);
  expect(tokenizer.encode("</s>")).toEqual(spelled);
  expect(tokenizer.encode("a</s>a")).not.toContain(2);
  expect(tokenizer.encodeWithSpecials("a</s>a")).toEqual([1, 2, 1]);
  // What no piece spells.
  expect(tokenizer.encode("?")).toEqual([0]);
});

test.each<[string, object, number, RegExp]>([
  ["a beginning that the backbone has not", { "tokenizer.ggml.bos_token_id": 2 ** 32 - 1 }, 10, /4294967295/],
  ["a beginning before the first token", { "tokenizer.ggml.bos_token_id": -1 }, 10, /with token -1/],
  ["a word that the backbone has not", {}, 9, /"▁" 9, .* 0 to 8. Use the tokenizer/],
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

const { tokenizer: letters } = ggufTokenizer(bytes());
const wordPieces = { ...letters, model: { type: "WordPiece", unk_token: "a", vocab: { a: 0, b: 1.5 } } };
const unigrams = { type: "Unigram", unk_id: 0, vocab: ["a", "b", "c", "d"].map(text => [text, -1]) };
test.each<[string, object, RegExp]>([
  ["nothing", {}, /describe none/],
  ["added tokens that are null", { ...letters, added_tokens: null }, /describe none/],
  ["added tokens that are a number", { ...letters, added_tokens: -1 }, /describe none/],
  ["an added token that is null", { ...letters, added_tokens: [null] }, /describe none/],
  ["a word between two numbers", wordPieces, /"b" 1.5/],
  ["more words than the backbone has", { ...letters, model: unigrams }, /"d" 3, .* 0 to 2/],
])("a tokenizer.json that is none is a bad backbone: %s", (_, tokenizer, why) => {
  const open = () => Tokenizer.from({ ...ggufTokenizer(bytes()), tokenizer }, 3);
  expect(open).toThrow(why);
  expect(open).toThrow(expect.objectContaining({ code: "bad_backbone" }));
});

test.each([-1, 1.5])("an end that is no token's number is none: %d", id => {
  const files = ggufTokenizer(pieces({ "tokenizer.ggml.eos_token_id": id }));
  expect(Tokenizer.from(files, 10).eosIds).toEqual([2]);
});

test.each([3, null])("a token beyond the backbone's table stays text: %s", id => {
  const files = ggufTokenizer(bytes());
  const added = [...(files.tokenizer as { added_tokens: object[] }).added_tokens];
  const more = { id, content: "ab", special: true, single_word: false, lstrip: false, rstrip: false };
  const tokenizer = { ...files.tokenizer, added_tokens: [...added, { ...more, normalized: false }] };
  const found = Tokenizer.from({ ...files, tokenizer }, 3);
  expect(found.encodeWithSpecials("ab")).toEqual([0, 1]);
  expect(found.specialIds).toEqual([2]);
  if (id !== null)
    expect(Tokenizer.from({ ...files, tokenizer }, id + 1).encodeWithSpecials("ab")).toEqual([id]);
});

test("a chat template that does not parse costs the field messages alone", () => {
  const tokenizer = Tokenizer.from({ ...ggufTokenizer(bytes()), chatTemplate: "{% if %}" }, 3);
  expect(tokenizer.encode("ab")).toEqual([0, 1]);
  expect(() => tokenizer.renderChat([{ role: "user", content: "a" }], { addGenerationPrompt: true })).toThrow(
    expect.objectContaining({ code: "bad_template" }),
  );
});

test("what a chat template spells and a model writes is shown, unless the file calls it special; no text becomes it", () => {
  const USER_DEFINED = 4;
  const added = bytes({
    "tokenizer.ggml.tokens": ["a", "b", "<|endoftext|>", "<tool_call>", "<|user|>"],
    "tokenizer.ggml.token_type": [NORMAL, NORMAL, CONTROL, USER_DEFINED, CONTROL],
    "tokenizer.chat_template": "{{ messages }}<|user|><tool_call>",
  });
  const tokenizer = Tokenizer.from(ggufTokenizer(added), 5);
  expect(tokenizer.decode([0, 3, 1, 4, 2], { skipSpecial: true })).toBe("a<tool_call>b");
  const stream = tokenizer.stream();
  expect([0, 3, 1, 4].map(id => stream.push(id))).toEqual(["a", "<tool_call>", "b", ""]);
  expect(tokenizer.specialIds.toSorted()).toEqual([2, 4]);
  expect(tokenizer.encode("a<tool_call>b<|user|>").filter(id => id > 1)).toEqual([]);
  expect(tokenizer.encodeWithSpecials("a<tool_call>b<|user|>")).toEqual([0, 3, 1, 4]);
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

test("a word that was added to the vocabulary is one token in any text; an end of text or a turn is none, whatever a file says of it", () => {
  const USER_DEFINED = 4;
  const added = bytes({
    "tokenizer.ggml.tokens": ["a", "b", "<|endoftext|>", "<think>", "<|User|>"],
    "tokenizer.ggml.token_type": [NORMAL, NORMAL, USER_DEFINED, USER_DEFINED, USER_DEFINED],
    "tokenizer.chat_template": "{{ messages }}<|User|><think>",
  });
  const tokenizer = Tokenizer.from(ggufTokenizer(added), 5);
  expect(tokenizer.encode("a<think>b")).toEqual([0, 3, 1]);
  expect(tokenizer.encode("<think>a")).toEqual(tokenizer.encodeWithSpecials("<think>a"));
  expect(tokenizer.encode("a<|endoftext|>")).not.toContain(2);
  expect(tokenizer.encodeWithSpecials("a<|endoftext|>")).toEqual([0, 2]);
  // Nor what the chat template opens a turn with.
  expect(tokenizer.encode("a<|User|>")).not.toContain(4);
  expect(tokenizer.encodeWithSpecials("a<|User|>")).toEqual([0, 4]);
});

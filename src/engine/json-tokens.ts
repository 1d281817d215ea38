/** What a vocabulary's tokens are to JSON: which may never occur, which end things, which are parts of characters. */
import type { Tokenizer } from "../backbone/tokenizer.ts";
import { SIGNS } from "./json-nesting.ts";

/** Plain data: a thread is given it as JSON. */
export interface JsonTokens {
  /** As the vocabulary spells them, by id; those that stand for no text are empty. */
  words: readonly string[];
  /** In the order in which they bring a value to its end. */
  closing: readonly number[];
  /** How many of them end something: EOS, quotes, brackets, what stands between. */
  closers: number;
  /** From where on there is nothing but blanks, which lead on between values and hardly ever to an end. */
  blanks: number;
  /** What ends a string. */
  quote: number;
  /** Texts of tokens that have one of the signs by which JSON nests. */
  signs: readonly (readonly [token: number, text: string])[];
  /** Bytes of tokens that are no whole characters. */
  partial: readonly (readonly [token: number, bytes: readonly number[]])[];
  /** Tokens with control characters, which no string of JSON may hold. */
  control: readonly number[];
}

export function jsonTokens(tokenizer: Tokenizer, size: number): JsonTokens {
  // An answer's text leaves special tokens out: in the grammar they would count as what they are called.
  const special = new Set(tokenizer.specialIds.filter(token => !tokenizer.eosIds.includes(token)));
  const words = tokenizer.vocabulary(size).map((word, token) => (special.has(token) ? "" : word));
  const texts = words.map((word, token) =>
    word === "" ? "" : tokenizer.decode([token], { skipSpecial: false }),
  );
  const ids = [...words.keys()];
  const cut = ids.filter(token => texts[token]!.includes("\uFFFD") && !words[token]!.includes("\uFFFD"));
  const spelled = tokenizer.vocabularyType === "byte_level" ? byteLevel : byteFallback;
  const partial = cut.map(token => [token, [...spelled(words[token]!)]] as const);
  // biome-ignore lint/suspicious/noControlCharactersInRegex: they are what is looked for; line breaks stand between values
  const control = ids.filter(token => /[\0-\t\v-\x1f]/.test(texts[token]!));
  const signs = ids.flatMap(token => (SIGNS.test(texts[token]!) ? [[token, texts[token]!] as const] : []));
  return {
    words,
    ...closingOrder(words, texts, tokenizer.eosIds),
    quote: words.indexOf('"'),
    signs,
    partial,
    control,
  };
}

/** Follows tokens that are parts of characters byte by byte: the grammar only counts bytes. */
export class Utf8 {
  readonly #partial: ReadonlyMap<number, readonly number[]>;
  readonly #control: readonly number[];
  readonly #known = new Map<string, ReadonlySet<number>>();

  constructor({ partial, control }: Pick<JsonTokens, "partial" | "control">) {
    this.#partial = new Map(partial);
    this.#control = control;
  }

  /** Bytes of a character that is not whole yet, once the token follows on such bytes. */
  after(begun: Uint8Array, token: number): Uint8Array {
    const bytes = this.#partial.get(token);
    return (bytes && unfinished([...begun, ...bytes])) ?? new Uint8Array(0);
  }

  /** Tokens that may not follow on such bytes: with them they are no UTF-8; and those that may follow on none. */
  refusedAfter(begun: Uint8Array): ReadonlySet<number> {
    const found = this.#known.get(begun.join());
    if (found) return found;
    const broken = [...this.#partial].filter(([, bytes]) => unfinished([...begun, ...bytes]) === null);
    const refused = new Set([...this.#control, ...broken.map(([token]) => token)]);
    this.#known.set(begun.join(), refused);
    return refused;
  }
}

/** What ends an object or a list comes first: behind "{" a quote would begin a property that need not be there. */
const CLOSERS = ["}", "]", '"', ":", ","];

function closingOrder(
  words: readonly string[],
  texts: readonly string[],
  eosIds: readonly number[],
): Pick<JsonTokens, "closing" | "closers" | "blanks"> {
  const byWord = new Map(words.map((word, token) => [word, token]));
  const first = new Set([...eosIds, ...CLOSERS.flatMap(closer => byWord.get(closer) ?? [])]);
  const isSign = (token: number) => (/^\w/.test(words[token]!) ? 0 : 1);
  const others = words
    .map((word, token) => ({ token, length: word.length }))
    .filter(({ token, length }) => length > 0 && !first.has(token))
    // Letters and digits go before signs: "0" before "-0", null before another list.
    .sort((a, b) => a.length - b.length || isSign(a.token) - isSign(b.token) || a.token - b.token)
    .map(({ token }) => token);
  const isBlank = (token: number) => texts[token]!.trim() === "";
  const closing = [...first, ...others.filter(token => !isBlank(token))];
  return { closing: [...closing, ...others.filter(isBlank)], closers: first.size, blanks: closing.length };
}

/** GPT-2's alphabet: visible bytes stand for themselves, the others for the characters from 256 on, in their order. */
const visible = (byte: number) =>
  (byte >= 0x21 && byte <= 0x7e) || (byte >= 0xa1 && byte <= 0xac) || byte >= 0xae;
const hidden = Array.from({ length: 256 }, (_, byte) => byte).filter(byte => !visible(byte));
const byteLevel = (word: string): Uint8Array =>
  Uint8Array.from(word, letter => {
    const code = letter.codePointAt(0)!;
    return code < 256 ? code : hidden[code - 256]!;
  });

const byteFallback = (word: string): Uint8Array => Uint8Array.of(Number.parseInt(word.slice(3, 5), 16));

/** Bytes that no character has yet, of what was written; null where no text could begin like that (RFC 3629). */
export function unfinished(bytes: readonly number[]): Uint8Array | null {
  try {
    const decoder = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });
    const text = decoder.decode(Uint8Array.from(bytes), { stream: true });
    return Uint8Array.from(bytes.slice(Buffer.byteLength(text)));
  } catch {
    return null;
  }
}

/** One turn of a chat, as the field `messages` takes it. */
export interface ChatMessage {
  role: string;
  content: string;
}

/** What this room needs of a tokenizer; the backbone's tokenizer satisfies it by shape. */
export interface TextCodec {
  /** Plain text to token ids; no text ever becomes a special token. `first`: nothing was said before it. */
  encode(text: string, options?: { first?: boolean }): number[];
  /** A template's own words to token ids: chat markers such as `<|im_end|>` become their ids. */
  encodeWithSpecials(text: string, options?: { first?: boolean }): number[];
  /** The token that stands before everything, where the tokenizer adds one. */
  readonly bosId: number | null;
  /** How that token is written in a template; null with `bosId`. */
  readonly bosText: string | null;
  /** The chat template's text for these messages, where the backbone has one. */
  renderChat?(messages: readonly ChatMessage[], options: { addGenerationPrompt: boolean }): string;
}

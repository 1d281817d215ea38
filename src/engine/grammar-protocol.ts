/** What the engine and the thread of a grammar say to each other: each message has one answer. */
export type ToGrammar =
  /** In place of the grammar before, which has no rows any more. */
  | { type: "compile"; schema: string }
  | { type: "open"; row: number }
  | { type: "accept"; row: number; token: number }
  /** Bring it to an end. */
  | { type: "close"; row: number }
  | { type: "dispose"; row: number };

export type FromGrammar =
  | { type: "compiled" }
  | { type: "refused"; why: string }
  /** The mask of the next token, which answers `open` and `accept`; null at the end. */
  | { type: "mask"; row: number; mask: Int32Array | null }
  /** Null where no end was found. */
  | { type: "closing"; row: number; tokens: number[] | null }
  | { type: "disposed"; row: number }
  /** XGrammar failed, its memory may be full: the row ends, and nothing more may be compiled here. */
  | { type: "failed"; row: number; why: string };

export interface GrammarThreadData {
  /** `JsonTokens` as JSON in UTF-8, shared by all threads. */
  tokens: SharedArrayBuffer;
  vocabularyType: "byte_level" | "byte_fallback";
  size: number;
  eosIds: readonly number[];
}

import { buildTrie, type LabelSequences, type LabelTrie } from "../prompt/trie.ts";
import { ByText } from "./by-text.ts";
import type { LabelVerbalizers } from "./engine.ts";

export interface Spelled {
  sequences: readonly LabelSequences[];
  trie: LabelTrie;
}

/** Labels in tokens, by their texts: each request brings a copy of its task's, and encoding many takes longer than an answer. */
export class LabelCache {
  readonly #spelled: ByText<readonly LabelVerbalizers[], Spelled>;

  constructor(limit: number) {
    this.#spelled = new ByText(limit, ({ sequences }) => mostBytes(sequences));
  }

  /** Throws as `encode` and `buildTrie` do. */
  take(
    labels: readonly LabelVerbalizers[],
    encode: (labels: readonly LabelVerbalizers[]) => readonly LabelSequences[],
  ): Spelled {
    return this.#spelled.take(labels, () => {
      const sequences = encode(labels);
      return { sequences, trie: buildTrie(sequences) };
    });
  }
}

/** Of a trie whose sequences share nothing: a node a token. */
const mostBytes = (labels: readonly LabelSequences[]): number =>
  labels.flatMap(({ sequences }) => sequences).reduce((bytes, { length }) => bytes + 900 * length, 0);

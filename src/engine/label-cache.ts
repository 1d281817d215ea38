import { buildTrie, type LabelSequences, type LabelTrie } from "../prompt/trie.ts";
import type { VerbalizedLabel } from "../prompt/verbalizer.ts";
import { ByText } from "./by-text.ts";

export interface Spelled {
  sequences: readonly LabelSequences[];
  trie: LabelTrie;
}

/** Labels in tokens, by their texts: each request brings a copy of its task's, and encoding many takes longer than an answer. */
export class LabelCache {
  readonly #spelled: ByText<readonly VerbalizedLabel[], Spelled>;

  constructor(limit: number) {
    this.#spelled = new ByText(limit, ({ sequences }) => mostBytes(sequences));
  }

  /** Throws as `encode` and `buildTrie` do. */
  take(
    labels: readonly VerbalizedLabel[],
    encode: (labels: readonly VerbalizedLabel[]) => readonly LabelSequences[],
  ): Spelled {
    return this.#spelled.take(labels, () => {
      const sequences = encode(labels);
      return { sequences, trie: buildTrie(sequences) };
    });
  }
}

/** The size of a trie whose sequences share nothing, with a node for every token. */
const mostBytes = (labels: readonly LabelSequences[]): number =>
  labels.flatMap(({ sequences }) => sequences).reduce((bytes, { length }) => bytes + 900 * length, 0);

import { buildTrie, type LabelSequences, type LabelTrie } from "../prompt/trie.ts";
import type { LabelVerbalizers } from "./engine.ts";

export interface Spelled {
  sequences: readonly LabelSequences[];
  trie: LabelTrie;
}

/**
 * Labels in tokens, by their texts: each request brings a copy of its task's, and encoding many takes longer than an
 * answer. Least recently used first out, bounded by bytes; what is larger by itself is made anew for each request.
 */
export class LabelCache {
  readonly #limit: number;
  /** In order of use, the oldest first. */
  readonly #byTexts = new Map<string, Spelled & { bytes: number }>();
  /** Within a request, and in training, it is the same array. */
  readonly #byArray = new WeakMap<readonly LabelVerbalizers[], Spelled>();
  #bytes = 0;

  constructor(limit: number) {
    this.#limit = limit;
  }

  /** Throws as `encode` and `buildTrie` do. */
  take(
    labels: readonly LabelVerbalizers[],
    encode: (labels: readonly LabelVerbalizers[]) => readonly LabelSequences[],
  ): Spelled {
    const known = this.#byArray.get(labels);
    if (known) return known;
    const key = JSON.stringify(labels);
    const kept = this.#byTexts.get(key);
    if (kept) this.#drop(key, kept.bytes);
    const found = kept ?? spell(encode(labels));
    const bytes = kept?.bytes ?? 2 * key.length + mostBytes(found.sequences);
    this.#byArray.set(labels, found);
    if (bytes <= this.#limit) this.#keep(key, { ...found, bytes });
    return found;
  }

  #keep(key: string, entry: Spelled & { bytes: number }): void {
    this.#byTexts.set(key, entry);
    this.#bytes += entry.bytes;
    for (const [oldest, { bytes }] of this.#byTexts) {
      if (this.#bytes <= this.#limit) return;
      this.#drop(oldest, bytes);
    }
  }

  #drop(key: string, bytes: number): void {
    this.#byTexts.delete(key);
    this.#bytes -= bytes;
  }
}

const spell = (sequences: readonly LabelSequences[]): Spelled => ({ sequences, trie: buildTrie(sequences) });

/** Of a trie whose sequences share nothing: a node a token. */
const mostBytes = (labels: readonly LabelSequences[]): number =>
  labels.flatMap(({ sequences }) => sequences).reduce((bytes, { length }) => bytes + 900 * length, 0);

/**
 * What is made of plain data, found again by the data's JSON: each input of a request brings a copy of its lists. Least
 * recently used first out, bounded by bytes; what is larger by itself is made anew for each copy.
 */
export class ByText<Given extends object, Made extends object> {
  readonly #limit: number;
  readonly #bytesOf: (made: Made) => number;
  /** In order of use, the oldest first. */
  readonly #kept = new Map<string, { made: Made; bytes: number }>();
  /** Within a request, and in training, it is the same object. */
  readonly #known = new WeakMap<Given, Made>();
  #bytes = 0;

  /** `bytesOf` counts what is made, without the text. */
  constructor(limit: number, bytesOf: (made: Made) => number) {
    this.#limit = limit;
    this.#bytesOf = bytesOf;
  }

  /** Throws as `make` does. */
  take(given: Given, make: () => Made): Made {
    const known = this.#known.get(given);
    if (known) return known;
    const key = JSON.stringify(given);
    const kept = this.#kept.get(key);
    if (kept) this.#drop(key, kept.bytes);
    const made = kept?.made ?? make();
    const bytes = kept?.bytes ?? 2 * key.length + this.#bytesOf(made);
    this.#known.set(given, made);
    if (bytes <= this.#limit) this.#keep(key, { made, bytes });
    return made;
  }

  #keep(key: string, entry: { made: Made; bytes: number }): void {
    this.#kept.set(key, entry);
    this.#bytes += entry.bytes;
    for (const [oldest, { bytes }] of this.#kept) {
      if (this.#bytes <= this.#limit) return;
      this.#drop(oldest, bytes);
    }
  }

  #drop(key: string, bytes: number): void {
    this.#kept.delete(key);
    this.#bytes -= bytes;
  }
}

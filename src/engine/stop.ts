/** Text that grows until a stop text occurs; holds back what might be the beginning of one. */
export class StopText {
  readonly #stops: readonly string[];
  #shown = "";
  #held = "";
  stopped = false;

  constructor(stops: readonly string[]) {
    this.#stops = stops;
  }

  /** All that was shown. */
  get text(): string {
    return this.#shown;
  }

  /** Adds text; returns what may be shown now. */
  push(more: string): string {
    this.#held += more;
    const at = this.#first();
    if (at !== null) {
      this.stopped = true;
      return this.#show(at, 0);
    }
    return this.#show(this.#held.length - this.#pending(), this.#pending());
  }

  /** Nothing more comes: what was held back is text, unless a stop text came. */
  end(more: string): string {
    if (this.stopped) return "";
    const shown = this.push(more);
    return this.stopped ? shown : shown + this.#show(this.#held.length, 0);
  }

  /**
   * Where the stop text begins that is whole first, the longest if several are: not the one that begins first, which may
   * want text that is still to come.
   */
  #first(): number | null {
    const [first] = this.#stops
      .map(stop => ({ at: this.#held.indexOf(stop), length: stop.length }))
      .filter(({ at }) => at >= 0)
      .sort((a, b) => a.at + a.length - (b.at + b.length) || a.at - b.at);
    return first?.at ?? null;
  }

  #show(length: number, keep: number): string {
    const shown = this.#held.slice(0, length);
    this.#held = keep > 0 ? this.#held.slice(length) : "";
    this.#shown += shown;
    return shown;
  }

  /** Length of the longest end of the held text that begins a stop text. */
  #pending(): number {
    let longest = 0;
    for (const stop of this.#stops) {
      for (let length = Math.min(stop.length - 1, this.#held.length); length > longest; length--) {
        if (this.#held.endsWith(stop.slice(0, length))) longest = length;
      }
    }
    return longest;
  }
}

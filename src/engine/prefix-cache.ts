/**
 * KV prefixes by key: least recently used first out, bounded by bytes, pinned while a row reads them, filled once
 * however many requests miss at the same time, and no further when all of them have gone.
 */
export interface Sized {
  readonly bytes: number;
}

/** Whether somebody who asked still waits. */
export type Wanted = () => boolean;
export const always: Wanted = () => true;

interface Entry {
  value: Promise<Sized>;
  /** Those who asked while it is filled; then null. */
  asked: Wanted[] | null;
  /** Until it is filled, what is expected. */
  bytes: number;
  pins: number;
  /** Forgotten while pinned: goes when the last pin does. */
  stale: boolean;
}

/** A value that stays until it is released. */
export interface Acquired<Value extends Sized> {
  value: Value;
  /** Whether it was there already. */
  hit: boolean;
  release: () => void;
}

export class PrefixCache {
  readonly limit: number;
  /** In order of use, the oldest first. */
  readonly #entries = new Map<string, Entry>();
  #bytes = 0;
  #pinned = 0;

  constructor(limit: number) {
    this.limit = limit;
  }

  /** Bytes of all that is kept or expected. */
  get bytes(): number {
    return this.#bytes;
  }

  /** The part of `bytes` that can't be given up. */
  get pinned(): number {
    return this.#pinned;
  }

  isPinned(key: string): boolean {
    return (this.#entries.get(key)?.pins ?? 0) > 0;
  }

  get size(): number {
    return this.#entries.size;
  }

  /**
   * The value for `key`, made by `fill` where it is absent; pinned until `release` is called. `fill` may give up, and
   * throw, once what it is given says that nobody waits any more. Room for `expected` bytes is made before it. Values of
   * several kinds share the limit: a key says which kind its value is.
   */
  async acquire<Value extends Sized>(
    key: string,
    fill: (wanted: Wanted) => Promise<Value>,
    wanted: Wanted = always,
    expected = 0,
  ): Promise<Acquired<Value>> {
    const known = this.#entries.get(key);
    known?.asked?.push(wanted);
    const entry = known ?? this.#insert(key, fill, wanted, expected);
    this.#entries.delete(key);
    this.#entries.set(key, entry);
    if (entry.pins++ === 0) this.#pinned += entry.bytes;
    this.#evict();
    let pinned = true;
    const release = () => {
      if (!pinned) return;
      pinned = false;
      if (--entry.pins === 0) this.#pinned -= entry.bytes;
      if (entry.stale && entry.pins === 0) this.#remove(key, entry);
      this.#evict();
    };
    try {
      return { value: (await entry.value) as Value, hit: known !== undefined, release };
    } catch (error) {
      release();
      throw error;
    }
  }

  forget(key: string): void {
    const entry = this.#entries.get(key);
    if (!entry) return;
    if (entry.pins > 0) entry.stale = true;
    else this.#remove(key, entry);
  }

  #insert(key: string, fill: (wanted: Wanted) => Promise<Sized>, first: Wanted, bytes: number): Entry {
    const entry: Entry = { value: null!, asked: [first], bytes, pins: 0, stale: false };
    this.#entries.set(key, entry);
    this.#bytes += bytes;
    entry.value = fill(() => this.#wanted(key, entry));
    entry.value.then(
      value => {
        entry.asked = null;
        if (this.#entries.get(key) !== entry) return;
        const more = value.bytes - entry.bytes;
        entry.bytes = value.bytes;
        this.#bytes += more;
        if (entry.pins > 0) this.#pinned += more;
        this.#evict();
      },
      // A failure is not kept: the next request tries again.
      () => this.#remove(key, entry),
    );
    return entry;
  }

  /** What nobody waits for is given up for good: whoever comes now begins anew, and does not hear of its end. */
  #wanted(key: string, entry: Entry): boolean {
    if (entry.asked?.some(wanted => wanted()) ?? true) return true;
    entry.asked = [];
    this.#remove(key, entry);
    return false;
  }

  #remove(key: string, entry: Entry): void {
    if (this.#entries.get(key) !== entry) return;
    this.#entries.delete(key);
    this.#bytes -= entry.bytes;
  }

  #evict(): void {
    for (const [key, entry] of this.#entries) {
      if (this.#bytes <= this.limit) return;
      if (entry.pins === 0 && entry.bytes > 0) this.#remove(key, entry);
    }
  }
}

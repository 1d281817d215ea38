/**
 * How many prompts and data sets name each blob. They are counted from all rows when that is first asked for, and from
 * then on as rows come and go, so that a blob is looked up without reading them: there may be tens of thousands.
 */
import { blobsOf, type StoreKey } from "./store.ts";

const countedKinds = ["prompt", "dataset"] as const;
type Counted = (typeof countedKinds)[number];

const isCounted = (kind: StoreKey[number] | undefined): kind is Counted =>
  (countedKinds as readonly unknown[]).includes(kind);

export class BlobNames {
  readonly #all: (kind: Counted) => Iterable<unknown>;
  #counts: Map<string, number> | null = null;
  #changed = false;

  constructor(all: (kind: Counted) => Iterable<unknown>) {
    this.#all = all;
  }

  has(sha256: string): boolean {
    this.#counts ??= this.#counted();
    return this.#counts.has(sha256);
  }

  /** A write begins. */
  begin(): void {
    this.#changed = false;
  }

  /** A row takes the place of another; undefined where there is none. */
  replace(key: StoreKey, before: () => unknown, after: unknown): void {
    if (this.#counts === null || !isCounted(key[0])) return;
    for (const sha256 of blobsOf(key, before())) add(this.#counts, sha256, -1);
    for (const sha256 of blobsOf(key, after)) add(this.#counts, sha256, 1);
    this.#changed = true;
  }

  /** The write came to nothing. */
  undo(): void {
    if (this.#changed) this.forget();
  }

  forget(): void {
    this.#counts = null;
  }

  #counted(): Map<string, number> {
    const counts = new Map<string, number>();
    for (const kind of countedKinds)
      for (const row of this.#all(kind)) for (const sha256 of blobsOf([kind], row)) add(counts, sha256, 1);
    return counts;
  }
}

function add(counts: Map<string, number>, sha256: string, by: number): void {
  const count = (counts.get(sha256) ?? 0) + by;
  if (count === 0) counts.delete(sha256);
  else counts.set(sha256, count);
}

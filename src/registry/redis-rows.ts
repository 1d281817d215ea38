/**
 * Rows of Redis as an action sees them that knows nothing of waiting: what it asks for and is not known yet stops it
 * (`Lacking`), is loaded, and it begins again. What it writes is staged, and committed only if what it read still holds.
 */
import type { ChangeKind } from "./registry.ts";
import { blobsOf, type Range, type StoreKey, type Writer } from "./store.ts";

/** Every key of the metadata is in one slot. */
export const keyOf = (name: string): string => `{fw}:${name}`;

const width = 10;
/** Numbers sort as texts when they are equally long. */
const part = (value: string | number): string =>
  typeof value === "number" ? String(value).padStart(width, "0") : value;

export const fieldOf = ([, ...rest]: StoreKey): string => rest.map(part).join("/");
export const tableOf = ([kind]: StoreKey): string => keyOf(String(kind));
export const orderOf = (table: string): string => `${table}:order`;

const addressOf = (key: StoreKey): string => `${tableOf(key)} ${fieldOf(key)}`;

export interface RangeQuery {
  table: string;
  from: string;
  to: string;
  limit: number;
  reverse: boolean;
}

function rangeQuery(prefix: StoreKey, { after, reverse = false, limit = -1 }: Range): RangeQuery {
  const begin = prefix.length > 1 ? `${fieldOf(prefix)}/` : "";
  // "0" follows "/": everything that begins so lies between.
  const [low, high] = begin === "" ? ["-", "+"] : [`[${begin}`, `(${begin.slice(0, -1)}0`];
  const behind = after === undefined ? undefined : `(${begin}${part(after)}`;
  const [from, to] = reverse ? [behind ?? high, low] : [behind ?? low, high];
  return { table: tableOf(prefix), from, to, limit, reverse };
}

/** What an action needs to know before it can go on. */
export class Lacking extends Error {
  readonly keys: readonly StoreKey[];
  readonly range: RangeQuery | null;

  constructor(keys: readonly StoreKey[], range: RangeQuery | null) {
    super("not loaded yet");
    this.keys = keys;
    this.range = range;
  }
}

/** A row as it was read, and as it is to be; null where there is none. */
interface Staged {
  key: StoreKey;
  text: string | null;
}

export class RedisRows implements Writer {
  readonly #known = new Map<string, Staged>();
  readonly #ranges = new Map<string, string[]>();
  readonly #staged = new Map<string, Staged>();
  #notes: string[] = [];
  #needs = new Set<string>();

  get<Value>(key: StoreKey): Value | undefined {
    return this.getAll<Value>([key])[0];
  }

  getAll<Value>(keys: readonly StoreKey[]): (Value | undefined)[] {
    const found = keys.map(key => this.#find(key));
    const lacking = keys.filter((_, at) => found[at] === undefined);
    if (lacking.length > 0) throw new Lacking(lacking, null);
    return found.map(row => (row!.text === null ? undefined : JSON.parse(row!.text)));
  }

  #find(key: StoreKey): Staged | undefined {
    const address = addressOf(key);
    return this.#staged.get(address) ?? this.#known.get(address);
  }

  values<Value>(prefix: StoreKey, range: Range = {}): Value[] {
    const query = rangeQuery(prefix, range);
    const found = this.#ranges.get(JSON.stringify(query));
    if (!found) throw new Lacking([], query);
    return found.map(text => JSON.parse(text));
  }

  put(key: StoreKey, value: unknown): void {
    this.#staged.set(addressOf(key), { key, text: JSON.stringify(value) });
  }

  remove(key: StoreKey): void {
    this.#staged.set(addressOf(key), { key, text: null });
  }

  note(kind: ChangeKind, id: string, version?: number): void {
    this.#notes.push(JSON.stringify({ kind, id, ...(version !== undefined && { version }) }));
  }

  requireBlob(sha256: string): void {
    this.#needs.add(sha256);
  }

  get needs(): readonly string[] {
    return [...this.#needs];
  }

  get writes(): boolean {
    return this.#staged.size > 0 || this.#notes.length > 0;
  }

  /** Keys that are written without having been read. */
  get unread(): StoreKey[] {
    return [...this.#staged].filter(([address]) => !this.#known.has(address)).map(([, { key }]) => key);
  }

  learn(key: StoreKey, text: string | null): void {
    this.#known.set(addressOf(key), { key, text });
  }

  learnRange(query: RangeQuery, texts: string[]): void {
    this.#ranges.set(JSON.stringify(query), texts);
  }

  /** Before an action begins, again. */
  begin(): void {
    this.#staged.clear();
    this.#notes = [];
    this.#needs.clear();
  }

  /** As the script takes it; a table's number is the place of its rows among the keys, its order is behind them. */
  commit(first: number): { tables: string[]; document: string } {
    const tables: string[] = [];
    const place = (key: StoreKey): number => {
      const table = tableOf(key);
      if (!tables.includes(table)) tables.push(table);
      return first + 2 * tables.indexOf(table);
    };
    const rows = [...this.#staged.values()].map(({ key, text }) => ({
      key,
      at: [place(key), fieldOf(key)],
      text,
    }));
    return {
      document: JSON.stringify({
        checks: [...this.#known.values()].map(({ key, text }) => [place(key), fieldOf(key), text ?? false]),
        needs: this.needs,
        removes: rows.filter(({ text }) => text === null).map(({ at }) => at),
        puts: rows.filter(({ text }) => text !== null).map(({ at, text }) => [...at, text]),
        names: this.#names(),
        notes: this.#notes,
      }),
      tables,
    };
  }

  /** How many more rows name each blob when this is written. */
  #names(): [string, number][] {
    const counts = new Map<string, number>();
    for (const [address, { key, text }] of this.#staged) {
      const before = this.#known.get(address)?.text ?? null;
      for (const [row, by] of [
        [before, -1],
        [text, 1],
      ] as const)
        for (const sha256 of new Set(row === null ? [] : blobsOf(key, JSON.parse(row))))
          counts.set(sha256, (counts.get(sha256) ?? 0) + by);
    }
    return [...counts].filter(([, by]) => by !== 0);
  }
}

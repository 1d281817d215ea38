/** What is to be run: a cell is one method on one data set with one seed. */

/**
 * Foreword's own: the plain pattern, the bundled hard prompt, a search's best, twenty worked examples and the prefix
 * that is distilled from them, what is trained, and five prefixes that answer together.
 */
export const ownMethods = [
  "plain",
  "hard",
  "search",
  "shots",
  "distill",
  "prefix",
  "soft",
  "ensemble",
] as const;
/** Without a seed: they have one run. */
const fixed: readonly string[] = ["plain", "hard"];
/** References by PEFT, on the same backbone, from the same examples in the same order. */
export const peerMethods = ["peft-prompt", "peft-prefix", "peft-lora"] as const;

export type OwnMethod = (typeof ownMethods)[number];
export type PeerMethod = (typeof peerMethods)[number];
export type Method = OwnMethod | PeerMethod;

export interface Cell {
  method: Method;
  data: string;
  seed: number;
}

export const nameOf = ({ method, data, seed }: Cell): string => `${method}/${data}/${seed}`;

export const isPeer = (method: Method): method is PeerMethod =>
  (peerMethods as readonly string[]).includes(method);

export interface Wanted {
  data: readonly string[];
  seeds: readonly number[];
  peers: boolean;
  /** Data sets of texts, on which nothing can vote. */
  texts?: readonly string[];
}

/** Data set by data set, seed by seed, so that what is compared runs side by side. */
export function allCells({ data, seeds, peers, texts = [] }: Wanted): Cell[] {
  const methods: Method[] = [...ownMethods, ...(peers ? peerMethods : [])];
  return data.flatMap(set =>
    seeds.flatMap((seed, index) =>
      methods
        .filter(method => !fixed.includes(method) || index === 0)
        .filter(method => method !== "ensemble" || !texts.includes(set))
        .map(method => ({ method, data: set, seed })),
    ),
  );
}

/**
 * Whether a cell is asked for: `prefix`, `prefix/trec`, `prefix/trec/1`; `*` stands for anything, several by comma are
 * alternatives (`prefix,soft/trec`). No filter asks for all.
 */
export function matches(cell: Cell, filters: readonly string[]): boolean {
  const names = [cell.method, cell.data, String(cell.seed)];
  return (
    filters.length === 0 ||
    filters.some(filter =>
      filter.split("/").every((part, at) => part === "*" || part.split(",").includes(names[at] ?? "")),
    )
  );
}

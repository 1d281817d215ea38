/** Samples taken side by side: the machine's other tenants slow a whole round, so ratios are taken within a round. */

export interface Summary {
  median: number;
  min: number;
  max: number;
  samples: number[];
}

export function summarise(samples: readonly number[]): Summary {
  const sorted = [...samples].sort((a, b) => a - b);
  const middle = sorted.length / 2;
  const median =
    sorted.length % 2 === 1 ? sorted[Math.floor(middle)]! : (sorted[middle - 1]! + sorted[middle]!) / 2;
  return { median, min: sorted[0]!, max: sorted.at(-1)!, samples: [...samples] };
}

/** Measures each of `measures` once a round, forwards and backwards in turn, after one round that is not counted. */
export async function interleave<Name extends string>(
  rounds: number,
  measures: Record<Name, () => Promise<number>>,
  onRound: (round: number, found: Record<Name, number>) => void = () => {},
): Promise<Record<Name, number[]>> {
  const names = Object.keys(measures) as Name[];
  const samples = Object.fromEntries(names.map(name => [name, [] as number[]])) as Record<Name, number[]>;
  for (let round = 0; round <= rounds; round++) {
    const found = {} as Record<Name, number>;
    for (const name of round % 2 === 0 ? names : [...names].reverse()) found[name] = await measures[name]();
    if (round > 0) for (const name of names) samples[name].push(found[name]);
    onRound(round, found);
  }
  return samples;
}

/** a / b, round by round. */
export const ratios = (a: readonly number[], b: readonly number[]): number[] =>
  a.map((value, round) => value / b[round]!);

/** The smallest value that at least this share of all do not exceed. */
export function quantile(values: readonly number[], share: number): number {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[Math.max(0, Math.ceil(share * sorted.length) - 1)]!;
}

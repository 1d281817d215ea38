/**
 * Successive halving (Jamieson & Talwalkar 2016): all candidates answer a few examples, the better half some more, until
 * few are left. Every round spends the same share of the budget; examples come in one order, so that candidates are
 * compared on the same ones.
 */
export interface Racer<Item, Result> {
  item: Item;
  /** Its results on the first examples, in their order. */
  results: Result[];
  score: number;
  /** The round that it came to, from 1. */
  round: number;
}

export interface RaceOptions<Item, Result> {
  examples: number;
  /** Answers in all. */
  budget: number;
  /** Racers that are left at the end. */
  finalists: number;
  answer: (item: Item, from: number, to: number) => Promise<Result[]>;
  /** Larger is better. */
  score: (results: readonly Result[]) => number;
  /** Told of an item that can't answer, which then leaves; what it throws ends the race. */
  onFailure: (item: Item, error: unknown) => void;
  onRound?: (racers: readonly Racer<Item, Result>[], round: number) => void;
}

/** Fewer examples say nothing. */
const LEAST = 8;

/** Best first: those that came further before those that left earlier. */
export async function race<Item, Result>(
  items: readonly Item[],
  { examples, budget, finalists, answer, score, onFailure, onRound }: RaceOptions<Item, Result>,
): Promise<Racer<Item, Result>[]> {
  let racing: Racer<Item, Result>[] = items.map(item => ({ item, results: [], score: 0, round: 0 }));
  const out: Racer<Item, Result>[] = [];
  const rounds = Math.max(1, Math.ceil(Math.log2(items.length / finalists)) + 1);
  for (let round = 1; round <= rounds; round++) {
    const known = racing[0]!.results.length;
    const more = Math.max(LEAST, Math.floor(budget / rounds / racing.length));
    const to = Math.min(examples, known + more);
    const failures: unknown[] = [];
    for (const racer of [...racing]) {
      try {
        // There may be more of them than a call takes arguments.
        if (to > known) for (const each of await answer(racer.item, known, to)) racer.results.push(each);
        racer.score = score(racer.results);
        racer.round = round;
      } catch (error) {
        onFailure(racer.item, error);
        failures.push(error);
        racing = racing.filter(each => each !== racer);
      }
    }
    if (racing.length === 0) throw failures[0];
    racing.sort((a, b) => b.score - a.score);
    onRound?.(racing, round);
    if (round === rounds) break;
    const kept = Math.max(finalists, Math.ceil(racing.length / 2));
    out.unshift(...racing.slice(kept));
    racing = racing.slice(0, kept);
  }
  return [...racing, ...out];
}

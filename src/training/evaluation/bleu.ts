/**
 * Corpus BLEU (Papineni et al. 2002) as sacrebleu computes it (Post 2018): mteval's 13a tokens, n-grams up to 4,
 * exponential smoothing, the closest reference's length. 0 to 100.
 */

const ORDER = 4;

/** What a text adds to a corpus' score. */
export interface BleuCounts {
  /** n-grams of each order that a reference has too, and all there are. */
  matched: readonly number[];
  total: readonly number[];
  length: number;
  /** The length of the reference that is closest in length; of two, the shorter one. */
  referenceLength: number;
}

export function bleuCounts(text: string, references: readonly string[]): BleuCounts {
  const given = tokens13a(text);
  const wanted = references.map(tokens13a);
  const orders = Array.from({ length: ORDER }, (_, n) => n + 1);
  const matched = orders.map(n => {
    const most = new Map<string, number>();
    for (const reference of wanted)
      for (const [gram, count] of grams(reference, n)) most.set(gram, Math.max(count, most.get(gram) ?? 0));
    let sum = 0;
    for (const [gram, count] of grams(given, n)) sum += Math.min(count, most.get(gram) ?? 0);
    return sum;
  });
  const away = (length: number) => Math.abs(length - given.length);
  const lengths = wanted.map(({ length }) => length);
  return {
    matched,
    total: orders.map(n => Math.max(0, given.length - n + 1)),
    length: given.length,
    referenceLength: lengths.reduce((best, each) =>
      away(each) < away(best) || (away(each) === away(best) && each < best) ? each : best,
    ),
  };
}

/** The counts of some texts together, given by their indices. */
export function totalCounts(counts: readonly BleuCounts[], chosen: ArrayLike<number>): BleuCounts {
  const [matched, total] = [new Array<number>(ORDER).fill(0), new Array<number>(ORDER).fill(0)];
  let [length, referenceLength] = [0, 0];
  for (let i = 0; i < chosen.length; i++) {
    const each = counts[chosen[i]!]!;
    for (let n = 0; n < ORDER; n++) {
      matched[n]! += each.matched[n]!;
      total[n]! += each.total[n]!;
    }
    length += each.length;
    referenceLength += each.referenceLength;
  }
  return { matched, total, length, referenceLength };
}

export function bleu(corpus: readonly BleuCounts[]): number {
  const everything = corpus.map((_, index) => index);
  const { matched, total, length, referenceLength } = totalCounts(corpus, everything);
  let logs = 0;
  let smooth = 1;
  for (let n = 0; n < ORDER; n++) {
    if (total[n] === 0 || (n === 0 && matched[n] === 0)) return 0;
    if (matched[n] === 0) smooth *= 2;
    logs += Math.log(matched[n] === 0 ? 1 / (smooth * total[n]!) : matched[n]! / total[n]!);
  }
  const brevity = length < referenceLength ? Math.exp(1 - referenceLength / length) : 1;
  return 100 * brevity * Math.exp(logs / ORDER);
}

function grams(tokens: readonly string[], n: number): Map<string, number> {
  const counts = new Map<string, number>();
  for (let at = 0; at + n <= tokens.length; at++) {
    const gram = tokens.slice(at, at + n).join(" ");
    counts.set(gram, (counts.get(gram) ?? 0) + 1);
  }
  return counts;
}

/** The tokens of mteval-v13a. */
export function tokens13a(text: string): string[] {
  return ` ${text.replaceAll("<skipped>", "").replaceAll("-\n", "").replaceAll("\n", " ")} `
    .replaceAll("&quot;", '"')
    .replaceAll("&amp;", "&")
    .replaceAll("&lt;", "<")
    .replaceAll("&gt;", ">")
    .replace(/([{-~[-` -&(-+:-@/])/g, " $1 ")
    .replace(/([^0-9])([.,])/gu, "$1 $2 ")
    .replace(/([.,])([^0-9])/gu, " $1 $2")
    .replace(/([0-9])(-)/g, "$1 $2 ")
    .split(/\s+/u)
    .filter(token => token !== "");
}

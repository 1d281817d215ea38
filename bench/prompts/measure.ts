/** Share of equal answers, 0 to 1. */
export function accuracy(gold: readonly string[], answers: readonly string[]): number {
  return gold.filter((label, index) => label === answers[index]).length / gold.length;
}

/** Mean of the labels' F1, 0 to 1, over the labels that occur in `gold`. */
export function macroF1(gold: readonly string[], answers: readonly string[]): number {
  const labels = [...new Set(gold)];
  const scores = labels.map(label => {
    const hits = gold.filter((each, index) => each === label && answers[index] === label).length;
    const there = gold.filter(each => each === label).length;
    const said = answers.filter(each => each === label).length;
    return (2 * hits) / (there + said);
  });
  return scores.reduce((sum, each) => sum + each, 0) / labels.length;
}

/**
 * Corpus BLEU, 0 to 100 (Papineni et al. 2002), with sacrebleu's `13a` tokenisation, exponential smoothing and closest
 * reference length; any number of references a text.
 */
export function bleu(texts: readonly string[], references: readonly (readonly string[])[]): number {
  const hits = [0, 0, 0, 0];
  const totals = [0, 0, 0, 0];
  let length = 0;
  let referenceLength = 0;
  texts.forEach((text, index) => {
    const tokens = tokenise13a(text);
    const refs = references[index]!.map(tokenise13a);
    length += tokens.length;
    referenceLength += closest(
      tokens.length,
      refs.map(ref => ref.length),
    );
    for (let order = 1; order <= 4; order++) {
      const allowed = new Map<string, number>();
      for (const ref of refs) {
        for (const [gram, count] of ngrams(ref, order))
          allowed.set(gram, Math.max(count, allowed.get(gram) ?? 0));
      }
      for (const [gram, count] of ngrams(tokens, order)) {
        totals[order - 1]! += count;
        hits[order - 1]! += Math.min(count, allowed.get(gram) ?? 0);
      }
    }
  });
  if (hits[0] === 0) return 0;
  let smooth = 1;
  const logs = hits.map((hit, at) => {
    if (totals[at] === 0) return Number.NEGATIVE_INFINITY;
    if (hit === 0) smooth *= 2;
    return Math.log(hit === 0 ? 1 / (smooth * totals[at]!) : hit / totals[at]!);
  });
  const brevity = length < referenceLength ? Math.exp(1 - referenceLength / length) : 1;
  return 100 * brevity * Math.exp(logs.reduce((sum, each) => sum + each, 0) / 4);
}

/** mteval-v13a. */
function tokenise13a(text: string): string[] {
  const plain = text
    .replace(/<skipped>/g, "")
    .replace(/-\n/g, "")
    .replace(/\n/g, " ")
    .replace(/&quot;/g, '"')
    .replace(/&amp;/g, "&")
    .replace(/&lt;/g, "<")
    .replace(/&gt;/g, ">");
  return ` ${plain} `
    .replace(/([{-~[-` -&(-+:-@/])/g, " $1 ")
    .replace(/([^0-9])([.,])/g, "$1 $2 ")
    .replace(/([.,])([^0-9])/g, " $1 $2")
    .replace(/([0-9])(-)/g, "$1 $2 ")
    .split(/\s+/)
    .filter(token => token !== "");
}

function ngrams(tokens: readonly string[], order: number): Map<string, number> {
  const counts = new Map<string, number>();
  for (let at = 0; at + order <= tokens.length; at++) {
    const gram = tokens.slice(at, at + order).join(" ");
    counts.set(gram, (counts.get(gram) ?? 0) + 1);
  }
  return counts;
}

function closest(length: number, candidates: readonly number[]): number {
  return candidates.reduce((best, each) => {
    const nearer = Math.abs(each - length) - Math.abs(best - length);
    return nearer < 0 || (nearer === 0 && each < best) ? each : best;
  });
}

/** The index of the best score with the bias added; the first of equals. */
export function likeliest(scores: readonly number[], bias?: readonly number[]): number {
  let at = 0;
  const value = (label: number) => scores[label]! + (bias?.[label] ?? 0);
  for (let label = 1; label < scores.length; label++) if (value(label) > value(at)) at = label;
  return at;
}

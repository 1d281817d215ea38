/**
 * A bias for every label, added to its log P, that makes the labels of some training examples likeliest. Models are
 * over-confident, so a common factor of the scores is fitted beside the biases (vector scaling, Guo et al. 2017) and
 * then divided out: the order of the labels stays the same, and the biases alone are kept. Convex; gradient descent
 * with a little pull to 0. Biases have mean 0.
 *
 * `scores[i][l]` is the natural log of P(label l) for example i; `gold[i]` an index of a label.
 */
export function fitBias(
  scores: readonly (readonly number[])[],
  gold: readonly number[],
  { steps = 3000, rate = 0.5, pull = 1e-3 } = {},
): number[] {
  const count = scores[0]!.length;
  const { rows, spread } = standardised(scores);
  const bias = new Array<number>(count).fill(0);
  let factor = spread;
  for (let step = 0; step < steps; step++) {
    const slope = new Array<number>(count).fill(0);
    let factorSlope = 0;
    rows.forEach((row, example) => {
      const shares = softmax(row.map((score, label) => factor * score + bias[label]!));
      shares.forEach((share, label) => {
        const excess = (share - (label === gold[example] ? 1 : 0)) / rows.length;
        slope[label]! += excess;
        factorSlope += excess * row[label]!;
      });
    });
    for (let label = 0; label < count; label++) bias[label]! -= rate * (slope[label]! + pull * bias[label]!);
    factor = Math.max(smallestFactor, factor - rate * factorSlope);
  }
  const mean = bias.reduce((sum, each) => sum + each, 0) / count;
  return bias.map(each => Math.round((((each - mean) * spread) / factor) * 1000) / 1000);
}

/** Scores that say nothing, or the opposite, must not turn the order around. */
const smallestFactor = 0.05;

/** Each row less its mean, all divided by their common deviation. */
function standardised(scores: readonly (readonly number[])[]): { rows: number[][]; spread: number } {
  const centred = scores.map(row => {
    const mean = row.reduce((sum, each) => sum + each, 0) / row.length;
    return row.map(score => score - mean);
  });
  const values = centred.flat();
  const spread = Math.sqrt(values.reduce((sum, each) => sum + each * each, 0) / values.length) || 1;
  return { rows: centred.map(row => row.map(score => score / spread)), spread };
}

function softmax(logits: readonly number[]): number[] {
  const peak = Math.max(...logits);
  const weights = logits.map(logit => Math.exp(logit - peak));
  const total = weights.reduce((sum, each) => sum + each, 0);
  return weights.map(weight => weight / total);
}

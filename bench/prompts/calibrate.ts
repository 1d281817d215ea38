/**
 * A bias for every label, added to its log P, that makes the labels of some training examples likeliest: batch
 * calibration with labels (Zhou et al. 2023), a logistic regression with the biases alone. Convex; plain gradient
 * descent with a little pull to 0. Biases have mean 0.
 *
 * `scores[i][l]` is the natural log of P(label l) for example i; `gold[i]` an index of a label.
 */
export function fitBias(
  scores: readonly (readonly number[])[],
  gold: readonly number[],
  { steps = 2000, rate = 1, pull = 1e-3 } = {},
): number[] {
  const count = scores[0]!.length;
  const bias = new Array<number>(count).fill(0);
  const wanted = new Array<number>(count).fill(0);
  for (const label of gold) wanted[label]! += 1 / gold.length;
  for (let step = 0; step < steps; step++) {
    const expected = new Array<number>(count).fill(0);
    for (const row of scores) {
      const shifted = row.map((score, label) => score + bias[label]!);
      const peak = Math.max(...shifted);
      const weights = shifted.map(score => Math.exp(score - peak));
      const total = weights.reduce((sum, each) => sum + each, 0);
      weights.forEach((weight, label) => {
        expected[label]! += weight / total / scores.length;
      });
    }
    for (let label = 0; label < count; label++) {
      bias[label]! += rate * (wanted[label]! - expected[label]! - pull * bias[label]!);
    }
  }
  const mean = bias.reduce((sum, each) => sum + each, 0) / count;
  return bias.map(each => Math.round((each - mean) * 1000) / 1000);
}

/** The index of the best score with the bias added; the first of equals. */
export function best(scores: readonly number[], bias?: readonly number[]): number {
  let at = 0;
  const value = (label: number) => scores[label]! + (bias?.[label] ?? 0);
  for (let label = 1; label < scores.length; label++) if (value(label) > value(at)) at = label;
  return at;
}

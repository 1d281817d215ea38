/**
 * What a gradient does to the parameters. An optimiser changes them in place and keeps its state in plain arrays, which
 * checkpoints hold; the arithmetic is in doubles, rounded once, so that a run repeats bit for bit.
 */
import { elementCount } from "../tensor/tensor.ts";

export interface Optimiser {
  step(parameters: readonly Float32Array[], gradients: readonly Float32Array[], rate: number): void;
  /** Everything that the next step depends on besides the parameters. */
  state(): Float64Array[];
  restore(state: readonly Float64Array[]): void;
}

/** Sizes of each parameter; the last axis is the one that Adafactor keeps apart. */
export type Shapes = readonly (readonly number[])[];

export interface OptimiserOptions {
  /** How large a rate of 1 is for each parameter; 1 by default. */
  sizes?: readonly number[];
  /** A step takes rate · decay of itself off every parameter, whatever its size and its gradient. */
  weightDecay?: number;
}

/** AdamW (Loshchilov & Hutter 2019): moments with bias correction, decay apart from the gradient. */
export function adamw(
  shapes: Shapes,
  {
    beta1 = 0.9,
    beta2 = 0.999,
    epsilon = 1e-8,
    weightDecay = 0,
    sizes = shapes.map(() => 1),
  }: OptimiserOptions & { beta1?: number; beta2?: number; epsilon?: number } = {},
): Optimiser {
  const first = shapes.map(shape => new Float64Array(elementCount(shape)));
  const second = shapes.map(shape => new Float64Array(elementCount(shape)));
  const steps = new Float64Array(1);
  return {
    step(parameters, gradients, rate) {
      const t = ++steps[0]!;
      const kept = 1 - rate * weightDecay;
      // Both corrections as one factor of the update: a division an element less, for every step of a prefix's 10⁶.
      const root = Math.sqrt(1 - beta2 ** t);
      const [correction, least] = [root / (1 - beta1 ** t), epsilon * root];
      for (const [index, parameter] of parameters.entries()) {
        const [m, v, gradient] = [first[index]!, second[index]!, gradients[index]!];
        const scale = rate * sizes[index]! * correction;
        for (let i = 0; i < parameter.length; i++) {
          const g = gradient[i]!;
          const moment = beta1 * m[i]! + (1 - beta1) * g;
          const square = beta2 * v[i]! + (1 - beta2) * g * g;
          m[i] = moment;
          v[i] = square;
          parameter[i] = kept * parameter[i]! - (scale * moment) / (Math.sqrt(square) + least);
        }
      }
    },
    state: () => [steps, ...first, ...second],
    restore: state => fill([steps, ...first, ...second], state),
  };
}

/**
 * Adafactor (Shazeer & Stern 2018) with a given rate and no momentum: the second moments of a matrix are the product of
 * its rows' and columns' sums, so its state is small; updates are clipped to a root mean square of 1.
 */
export function adafactor(
  shapes: Shapes,
  {
    decay = 0.8,
    epsilon = 1e-30,
    weightDecay = 0,
    sizes = shapes.map(() => 1),
  }: OptimiserOptions & { decay?: number; epsilon?: number } = {},
): Optimiser {
  const matrices = shapes.map(shape => {
    const columns = shape.at(-1) ?? 1;
    return { rows: elementCount(shape) / columns, columns };
  });
  const rows = matrices.map(size => new Float64Array(size.rows));
  const columns = matrices.map(size => new Float64Array(size.columns));
  const steps = new Float64Array(1);
  return {
    step(parameters, gradients, rate) {
      const t = ++steps[0]!;
      const kept = 1 - rate * weightDecay;
      const keep = 1 - t ** -decay;
      for (const [index, parameter] of parameters.entries()) {
        const { rows: height, columns: width } = matrices[index]!;
        const [r, c, gradient] = [rows[index]!, columns[index]!, gradients[index]!];
        const scale = rate * sizes[index]!;
        const [rowMeans, columnMeans] = meanSquares(gradient, height, width, epsilon);
        for (let i = 0; i < height; i++) r[i] = keep * r[i]! + (1 - keep) * rowMeans[i]!;
        for (let j = 0; j < width; j++) c[j] = keep * c[j]! + (1 - keep) * columnMeans[j]!;
        const mean = r.reduce((sum, value) => sum + value, 0) / height;
        const scaled = (i: number) =>
          gradient[i]! / Math.sqrt((r[Math.floor(i / width)]! / mean) * c[i % width]!);
        let squares = 0;
        for (let i = 0; i < parameter.length; i++) squares += scaled(i) ** 2;
        const clip = Math.max(1, Math.sqrt(squares / parameter.length));
        for (let i = 0; i < parameter.length; i++)
          parameter[i] = kept * parameter[i]! - scale * (scaled(i) / clip);
      }
    },
    state: () => [steps, ...rows, ...columns],
    restore: state => fill([steps, ...rows, ...columns], state),
  };
}

export const optimisers = { adamw, adafactor } as const;
export type OptimiserName = keyof typeof optimisers;

function meanSquares(gradient: Float32Array, height: number, width: number, epsilon: number) {
  const rows = new Float64Array(height);
  const columns = new Float64Array(width);
  for (let i = 0, at = 0; i < height; i++) {
    for (let j = 0; j < width; j++, at++) {
      const square = gradient[at]! ** 2 + epsilon;
      rows[i]! += square / width;
      columns[j]! += square / height;
    }
  }
  return [rows, columns] as const;
}

function fill(arrays: readonly Float64Array[], values: readonly Float64Array[]): void {
  if (arrays.length !== values.length) throw new Error("the optimiser's state is of another optimiser");
  for (const [index, array] of arrays.entries()) array.set(values[index]!);
}

export const rootMeanSquare = (data: Float32Array): number =>
  Math.sqrt(data.reduce((sum, value) => sum + value * value, 0) / data.length);

/** Scales the gradients so that their common norm is at most `limit`; returns the norm before. */
export function clip(gradients: readonly Float32Array[], limit: number): number {
  let squares = 0;
  // By index: an iterator over 10⁶ numbers takes three times as long.
  for (const gradient of gradients)
    for (let i = 0; i < gradient.length; i++) squares += gradient[i]! * gradient[i]!;
  const norm = Math.sqrt(squares);
  if (norm > limit) {
    const by = limit / norm;
    for (const gradient of gradients)
      for (let i = 0; i < gradient.length; i++) gradient[i] = gradient[i]! * by;
  }
  return norm;
}

/** Linear warm-up to `peak`, then a half cosine down to nothing at `steps` (Loshchilov & Hutter 2017). `step` from 0. */
export function rateAt(
  step: number,
  { peak, warmup, steps }: { peak: number; warmup: number; steps: number },
): number {
  if (step < warmup) return (peak * (step + 1)) / warmup;
  const done = (step - warmup) / Math.max(1, steps - warmup);
  return (peak * (1 + Math.cos(Math.PI * Math.min(1, done)))) / 2;
}

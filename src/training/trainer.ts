/**
 * One training run, a step at a time: gradients of micro-batches are added up, clipped and handed to the optimiser, and
 * an average of the parameters is kept, which is what is validated and saved (Polyak & Juditsky 1992). The same seed,
 * data and machine give the same bits; so does going on from a saved state.
 */
import { ForewordError } from "../errors.ts";
import { batchAt, microBatches, type Parameter, tokensOf } from "./batches.ts";
import type { GradientSource } from "./gradients.ts";
import { clip, type Optimiser, type OptimiserName, optimisers, rateAt, rootMeanSquare } from "./optimiser.ts";
import type { TrainingRow } from "./rows.ts";

export interface TrainSettings {
  steps: number;
  batchSize: number;
  /**
   * Of a tensor's size, the root mean square that it starts with: a backbone's keys are several times its values, and its
   * last values forty times its first, so that no absolute rate suits both.
   */
  learningRate: number;
  warmup: number;
  optimizer: OptimiserName;
  weightDecay: number;
  /** Largest norm of a step's gradient. */
  clip: number;
  seed: number;
  /** Tokens of one run of the graph: memory grows with them. */
  microTokens: number;
  /** How much of the average a step keeps; 0 is no average. */
  average: number;
}

export interface StepReport {
  step: number;
  /** Mean over the step's examples. */
  loss: number;
}

/** What a checkpoint holds. */
export interface TrainerState {
  step: number;
  /** Of the parameters as they began, which every rate is relative to. */
  sizes: number[];
  parameters: Float32Array[];
  average: Float64Array[];
  optimiser: Float64Array[];
}

export interface TrainerOptions {
  /** Computes the gradients of these very parameters. */
  gradients: GradientSource;
  /** Rows of each example. */
  examples: readonly (readonly TrainingRow[])[];
  /** Changed in place. */
  parameters: Parameter[];
  settings: TrainSettings;
}

/** `bad_tensor`, with the step, its rate and a remedy. */
export function notFinite(what: string, step: number, settings: TrainSettings): ForewordError {
  const { learningRate: peak, warmup, steps } = settings;
  const rate = rateAt(step - 1, { peak, warmup, steps });
  return new ForewordError(
    "bad_tensor",
    `${what} at step ${step}, at a learning rate of ${rate.toPrecision(2)}. Train with a lower learning_rate; ${(peak / 3).toPrecision(1)} is worth a try.`,
    { step, learning_rate: rate },
  );
}

export class Trainer {
  readonly #options: TrainerOptions;
  #sizes: number[];
  #optimiser: Optimiser;
  readonly #average: Float64Array[];
  readonly #lengths: readonly number[];
  #step = 0;

  constructor(options: TrainerOptions) {
    this.#options = options;
    this.#sizes = options.parameters.map(({ data }) => rootMeanSquare(data) || 1);
    this.#optimiser = this.#newOptimiser();
    this.#average = options.parameters.map(({ data }) => Float64Array.from(data));
    this.#lengths = options.examples.map(tokensOf);
  }

  get steps(): number {
    return this.#step;
  }

  /** Throws `bad_tensor` where the loss is no number; the parameters are then those of the step before. */
  async step(): Promise<StepReport> {
    const { settings, parameters, examples } = this.#options;
    const { batchSize, seed, steps, warmup, learningRate } = settings;
    const chosen = batchAt(this.#step, { lengths: this.#lengths, size: batchSize, seed });
    const rows = chosen.flatMap(index => examples[index]!);
    const source = this.#options.gradients;
    const parts = microBatches(rows, settings.microTokens, part => source.fits(part));
    const { loss, gradients } = await source.run(parts, 1 / chosen.length);
    const norm = clip(gradients, settings.clip);
    const rate = rateAt(this.#step, { peak: learningRate, warmup, steps });
    if (!Number.isFinite(loss) || !Number.isFinite(norm))
      throw notFinite(`The loss is ${loss}, its gradient's norm ${norm}`, this.#step + 1, settings);
    this.#optimiser.step(
      parameters.map(({ data }) => data),
      gradients,
      rate,
    );
    this.#step++;
    this.#follow();
    return { step: this.#step, loss };
  }

  /** The averaged parameters. */
  averaged(): Parameter[] {
    return this.#options.parameters.map((parameter, index) => ({
      ...parameter,
      data: Float32Array.from(this.#average[index]!),
    }));
  }

  state(): TrainerState {
    return {
      step: this.#step,
      sizes: this.#sizes,
      parameters: this.#options.parameters.map(({ data }) => data.slice()),
      average: this.#average.map(array => array.slice()),
      optimiser: this.#optimiser.state().map(array => array.slice()),
    };
  }

  restore({ step, sizes, parameters, average, optimiser }: TrainerState): void {
    this.#step = step;
    this.#sizes = sizes;
    this.#optimiser = this.#newOptimiser();
    for (const [index, data] of parameters.entries()) this.#options.parameters[index]!.data.set(data);
    for (const [index, data] of average.entries()) this.#average[index]!.set(data);
    this.#optimiser.restore(optimiser);
  }

  #newOptimiser(): Optimiser {
    const { parameters, settings } = this.#options;
    return optimisers[settings.optimizer](
      parameters.map(({ dims }) => dims),
      { sizes: this.#sizes, weightDecay: settings.weightDecay },
    );
  }

  /** The average follows the parameters; early steps count less than they would in a plain running mean. */
  #follow(): void {
    const keep = Math.min(this.#options.settings.average, this.#step / (this.#step + 10));
    for (const [index, { data }] of this.#options.parameters.entries()) {
      const average = this.#average[index]!;
      for (let i = 0; i < average.length; i++) average[i] = keep * average[i]! + (1 - keep) * data[i]!;
    }
  }
}

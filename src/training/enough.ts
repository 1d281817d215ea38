/** Which examples a run lays out: all of them, or, if there are far more than it reads, as many as it reads. */
import type { Example } from "../contract/dataset.ts";
import type { TrainingRow } from "./rows.ts";
import { sample } from "./split.ts";
import type { TrainSettings } from "./trainer.ts";

/** Up to this many are always laid out, in seconds. A run reads fewer, unless more or larger steps are asked for. */
export const ALWAYS = 25_000;

export interface LaidOut {
  rows: TrainingRow[][];
  settings: TrainSettings;
}

/**
 * A sample by label, drawn with the run's seed, takes the place of more examples than `ALWAYS` and than the steps read.
 * How many those are depends on how long rows are, which a first sample tells.
 */
export function layOutEnough(
  examples: readonly Example[],
  seed: number,
  layOut: (some: readonly Example[]) => TrainingRow[][],
  settle: (rows: readonly TrainingRow[][]) => TrainSettings,
): LaidOut {
  const laidOut = (most: number): LaidOut => {
    const rows = layOut(sample(examples, most, seed));
    return { rows, settings: settle(rows) };
  };
  const first = laidOut(ALWAYS);
  const { steps, batchSize } = first.settings;
  const read = Math.min(examples.length, steps * batchSize);
  return read > first.rows.length ? laidOut(read) : first;
}

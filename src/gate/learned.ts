/** What was measured of learning in int8 beside fp32, by backbone: `npm run bench -- gate` makes the figures. */

export interface Learned {
  /** Validation accuracy after training with default settings: the median of three seeds, by task. */
  tasks: Readonly<Record<string, { fp32: number; int8: number }>>;
}

/** Points of accuracy that int8 may lose. */
const LOSS = 0.005;

/** By the backbone's fingerprint. */
const measured: Readonly<Record<string, Learned>> = {};

/** Whether int8 learned as well as fp32, as far as it was measured. */
export function learned(fingerprint: string): boolean {
  const found = measured[fingerprint];
  return found !== undefined && Object.values(found.tasks).every(({ fp32, int8 }) => int8 >= fp32 - LOSS);
}

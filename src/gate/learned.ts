/** What was measured of learning in int8 beside fp32, by backbone: `npm run bench -- gate` makes the figures. */

/** Validation accuracy after training with the same settings and seeds: the median, by task. */
export type Learned = Readonly<Record<string, { readonly fp32: number; readonly int8: number }>>;

/** What int8 may lose: half a point. */
const LOSS = 0.005;

/** By the backbone's fingerprint. */
const measured: Readonly<Record<string, Learned>> = {};

export const learnedOn = (fingerprint: string): Learned | null => measured[fingerprint] ?? null;

/** Whether int8 learned as well as fp32; what was not measured did not. */
export const learnsAsWell = (learned: Learned | null): boolean =>
  learned !== null && Object.values(learned).every(({ fp32, int8 }) => int8 >= fp32 - LOSS);

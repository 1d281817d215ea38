/** What was measured of learning in int8 beside fp32, by backbone: `npm run bench -- gate` makes the figures. */

/** Validation accuracy after training with the same settings and seeds: the median, by task. */
export type Learned = Readonly<Record<string, { readonly fp32: number; readonly int8: number }>>;

/** What int8 may lose: half a point. */
const LOSS = 0.005;

/** By the backbone's fingerprint. */
const measured: Readonly<Record<string, Learned>> = {
  // SmolLM2-135M-Instruct: npm run bench -- gate --set '{"steps":200,"batch_size":8}'
  "4dd0099a6df89e418a4f3bd444fb594227bfa3a63a81a290bbf36d51dd78b3de": {
    trec: { fp32: 0.9082, int8: 0.9163 },
    sst2: { fp32: 0.8876, int8: 0.8876 },
  },
};

export const learnedOn = (fingerprint: string): Learned | null => measured[fingerprint] ?? null;

/** Whether int8 learned as well as fp32; what was not measured did not. */
export const learnsAsWell = (learned: Learned | null): boolean =>
  learned !== null && Object.values(learned).every(({ fp32, int8 }) => int8 >= fp32 - LOSS);

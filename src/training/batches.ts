/** Which rows make a step, in which micro-batches, and what the training graph is fed for one. */
import { emptyPast, type Feeds, float32, int64, layout, startsOf } from "../backbone/feeds.ts";
import { EXCLUDED } from "../backbone/objective.ts";
import type { BackboneConfig } from "../backbone/source.ts";
import { randomFrom } from "../engine/sampler.ts";
import type { TrainingRow } from "./rows.ts";

/** Batches whose examples are sorted by length together. */
const WINDOW = 8;

/**
 * The examples of one step: every pass over the data has an order of its own, which follows from the seed and the pass
 * alone, so that a run can go on from any step. Batches next to one another are sorted by length among themselves, and
 * stand in any order again, so that little is padded; what does not fill a batch waits for another pass.
 */
export function batchAt(
  step: number,
  { lengths, size, seed }: { lengths: readonly number[]; size: number; seed: number },
): number[] {
  const each = Math.min(size, lengths.length);
  const batches = Math.floor(lengths.length / each);
  const [pass, at] = [Math.floor(step / batches), step % batches];
  const order = shuffled(lengths.length, randomFrom(seed * 1_000_003 + pass));
  const first = at - (at % WINDOW);
  const count = Math.min(WINDOW, batches - first);
  const window = order
    .slice(first * each, (first + count) * each)
    .sort((a, b) => lengths[a]! - lengths[b]! || a - b);
  const places = shuffled(count, randomFrom(seed * 1_000_003 + pass * batches + first));
  const place = places[at - first]!;
  return window.slice(place * each, (place + 1) * each);
}

/** Fisher and Yates. */
export function shuffled(count: number, random: () => number): number[] {
  const order = Array.from({ length: count }, (_, index) => index);
  for (let i = count - 1; i > 0; i--) {
    const j = Math.floor(random() * (i + 1));
    [order[i], order[j]] = [order[j]!, order[i]!];
  }
  return order;
}

/** Tokens that an example's rows hold. */
export const tokensOf = (rows: readonly TrainingRow[]): number =>
  rows.reduce((sum, { length }) => sum + length, 0);

/** Rows of like lengths together, as many as are within `tokens` and fit; a row that does not stands alone. */
export function microBatches(
  rows: readonly TrainingRow[],
  tokens: number,
  fits: (part: readonly TrainingRow[]) => boolean,
): TrainingRow[][] {
  const parts: TrainingRow[][] = [];
  let room = 0;
  for (const row of [...rows].sort((a, b) => a.length - b.length)) {
    const part = parts.at(-1);
    if (part && row.length <= room && fits([...part, row])) {
      part.push(row);
      room -= row.length;
    } else {
      parts.push([row]);
      room = tokens - row.length;
    }
  }
  return parts;
}

/** A tensor that belongs to a prompt: an input of the step graph and its numbers. */
export interface Parameter {
  /** `virtual`, or `past_key.3`. */
  input: string;
  dims: readonly number[];
  data: Float32Array;
}

/** Positions of keys and values before the rows. */
export const pastLength = (parameters: readonly Parameter[]): number =>
  parameters.find(({ input }) => input.startsWith("past_key"))?.dims[2] ?? 0;

/** Inputs of the training graph for some rows; `scale` multiplies every weight (one over the step's examples). */
export function trainingFeeds(
  rows: readonly TrainingRow[],
  parameters: readonly Parameter[],
  config: BackboneConfig,
  scale: number,
): Feeds {
  const past = pastLength(parameters);
  const shapes = rows.map(({ length }) => ({ past, trunk: length, branches: [], length }));
  const starts = startsOf(shapes);
  return {
    ...tokens(rows, config.hiddenSize),
    ...layout(shapes, past),
    ...emptyPast(config),
    ...Object.fromEntries(parameters.map(({ input, dims, data }) => [input, float32(dims, data)])),
    ...decisionFeeds(rows, starts, scale),
    ...nextFeeds(rows, starts, scale),
  };
}

function tokens(rows: readonly TrainingRow[], hidden: number): Feeds {
  const ids: number[] = [];
  const slots: number[] = [];
  const virtual: number[] = [];
  for (const segment of rows.flatMap(({ segments }) => segments)) {
    if ("ids" in segment) {
      for (const id of segment.ids) {
        ids.push(id);
        slots.push(0);
        virtual.push(0);
      }
    } else {
      for (let i = 0; i < segment.soft.length; i++) {
        ids.push(0);
        slots.push(segment.soft.from + i);
        virtual.push(1);
      }
    }
  }
  return {
    ids: int64([ids.length], ids),
    slot: int64([ids.length], slots),
    is_virtual: { type: "bool", dims: [ids.length, 1], data: Uint8Array.from(virtual) },
    virtual: float32([1, hidden], new Float32Array(hidden)),
  };
}

function decisionFeeds(rows: readonly TrainingRow[], starts: readonly number[], scale: number): Feeds {
  const scored: number[] = [];
  const columns = new Map<number, number>();
  const all = rows.flatMap(({ decisions }, index) =>
    decisions.map(decision => {
      scored.push(starts[index]! + decision.at);
      for (const token of decision.candidates) if (!columns.has(token)) columns.set(token, columns.size);
      return decision;
    }),
  );
  const width = columns.size;
  const excluded = new Float32Array(all.length * width).fill(EXCLUDED);
  const gold = new Float32Array(all.length * width);
  for (const [line, { candidates, weights }] of all.entries()) {
    for (const [i, token] of candidates.entries()) {
      excluded[line * width + columns.get(token)!] = 0;
      gold[line * width + columns.get(token)!] = weights[i]! * scale;
    }
  }
  return {
    scored: int64([scored.length], scored),
    candidates: int64([width], [...columns.keys()]),
    excluded: float32([all.length, width], excluded),
    ...(all.length > 0 && { gold: float32([all.length, width], gold) }),
  };
}

function nextFeeds(rows: readonly TrainingRow[], starts: readonly number[], scale: number): Feeds {
  const all = rows.flatMap(({ next }, index) =>
    next.map(each => ({ ...each, at: starts[index]! + each.at })),
  );
  const column = (values: number[]) => Float32Array.from(values);
  return {
    sampled: int64(
      [all.length],
      all.map(({ at }) => at),
    ),
    next: int64(
      [all.length, 1],
      all.map(({ token }) => token),
    ),
    ...(all.length > 0 && {
      gold: float32([all.length, 1], column(all.map(({ weight }) => weight * scale))),
    }),
  };
}

import { type Segment, segmentLength, segmentsLength } from "../backbone/feeds.ts";
import type { KvBlock } from "./kv.ts";
import type { Program, Result } from "./scheduler.ts";
import type { PrefillResult, PrefillWork } from "./work.ts";

/** Tokens of a trunk that one run takes: bounds a step's time, and the memory of its attention scores. */
export const CHUNK = 512;

/** Whether that many tokens take several runs. */
export const isLong = (tokens: number): boolean => tokens > CHUNK;

/** Tokens of branches alone that one run takes: no more than the context has, whose rotary table all of them share. */
export const branchChunk = (maxPositions: number): number => Math.min(CHUNK, maxPositions);

/** Tokens of branches that may stand behind a row's last chunk, in its run. */
export const branchRoom = (segments: readonly Segment[], maxPositions: number): number =>
  Math.min(CHUNK, maxPositions - (((segmentsLength(segments) - 1) % CHUNK) + 1));

/**
 * Feeds a row of any length: all but its last chunk in runs of their own, whose keys and values the later ones see.
 * Returns the last run's result, and the past that it saw.
 */
export function* feed(
  past: readonly KvBlock[],
  segments: readonly Segment[],
  wanted: Pick<PrefillWork, "branches" | "scored" | "keep"> & {
    sampled: (trunk: number) => readonly number[];
  },
  chunk = CHUNK,
): Generator<PrefillWork[], { result: PrefillResult; past: readonly KvBlock[] }, Result> {
  const chunks = chunked(segments, chunk);
  let seen = past;
  for (const chunk of chunks.slice(0, -1)) {
    const { prefilled } = yield [
      { past: seen, segments: chunk, branches: [], scored: [], sampled: [], keep: true },
    ];
    seen = [...seen, prefilled![0]!.kept!];
  }
  const last = chunks.at(-1)!;
  const { branches, scored, keep, sampled } = wanted;
  const work: PrefillWork = {
    past: seen,
    segments: last,
    branches,
    scored,
    keep,
    sampled: sampled(segmentsLength(last)),
  };
  const { prefilled } = yield [work];
  return { result: prefilled![0]!, past: seen };
}

/** The keys and values of all segments, as blocks behind `past`; a run takes `chunk` tokens. */
export function* fill(
  past: readonly KvBlock[],
  segments: readonly Segment[],
  chunk = CHUNK,
): Program<readonly KvBlock[]> {
  const wanted = { branches: [], scored: [], sampled: () => [], keep: true };
  const { result, past: seen } = yield* feed(past, segments, wanted, chunk);
  return [...seen, result.kept!];
}

/** The keys and values of each text, behind `past` and one another. */
export function* feedBlocks(
  past: readonly KvBlock[],
  texts: readonly (readonly number[])[],
): Program<KvBlock[]> {
  const blocks: KvBlock[] = [];
  for (const ids of texts) {
    const seen = [...past, ...blocks];
    const { prefilled } = yield [
      { past: seen, segments: [{ ids }], branches: [], scored: [], sampled: [], keep: true },
    ];
    blocks.push(prefilled![0]!.kept!);
  }
  return blocks;
}

function chunked(segments: readonly Segment[], size: number): Segment[][] {
  const chunks: Segment[][] = [[]];
  let room = size;
  for (const segment of segments) {
    const length = segmentLength(segment);
    for (let from = 0; from < length; ) {
      if (room === 0) {
        chunks.push([]);
        room = size;
      }
      const count = Math.min(room, length - from);
      chunks.at(-1)!.push(slice(segment, from, count));
      from += count;
      room -= count;
    }
  }
  return chunks;
}

function slice(segment: Segment, from: number, count: number): Segment {
  if ("ids" in segment) return { ids: segment.ids.slice(from, from + count) };
  const width = segment.virtual.length / segment.count;
  return { virtual: segment.virtual.subarray(from * width, (from + count) * width), count };
}

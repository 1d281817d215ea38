/** What the step graph is fed, from rows and tokens: pure functions, for serving and for training. */
import type { RuntimeTensor } from "../runtime/runtime.ts";

export type Feeds = Record<string, RuntimeTensor>;

/** Tokens to feed: ids of the vocabulary, or virtual tokens given as embeddings [count, hidden]. */
export type Segment =
  | { readonly ids: readonly number[] }
  | { readonly virtual: Float32Array; readonly count: number };

export const segmentLength = (segment: Segment): number =>
  "ids" in segment ? segment.ids.length : segment.count;
export const segmentsLength = (segments: readonly Segment[]): number =>
  segments.reduce((sum, segment) => sum + segmentLength(segment), 0);

export const int64 = (dims: readonly number[], data: readonly number[]): RuntimeTensor => ({
  type: "int64",
  dims,
  data: BigInt64Array.from(data, BigInt),
});
export const float32 = (dims: readonly number[], data: Float32Array): RuntimeTensor => ({
  type: "float32",
  dims,
  data,
});
export const floats = (tensor: RuntimeTensor): Float32Array => tensor.data as Float32Array;

/** What one row brings to a run; its tokens stand one after another in the packed order, branches behind the trunk. */
export interface Row {
  /** Positions before the first token. */
  past: number;
  trunk: number;
  branches: readonly number[];
  /** Trunk and branches. */
  length: number;
}

/** Words alone, of vectors of `hidden` numbers. */
export const wordFeeds = (ids: readonly number[], hidden: number): Feeds => ({
  ids: int64([ids.length], ids),
  virtual: float32([1, hidden], new Float32Array(hidden)),
  slot: int64(
    [ids.length],
    ids.map(() => 0),
  ),
  is_virtual: { type: "bool", dims: [ids.length, 1], data: new Uint8Array(ids.length) },
});

/** Words and virtual tokens, in order. */
export function segmentFeeds(segments: readonly Segment[], hidden: number): Feeds {
  const virtual = segments.filter(segment => "virtual" in segment);
  const feeds = wordFeeds(
    segments.flatMap(segment => ("ids" in segment ? segment.ids : Array<number>(segment.count).fill(0))),
    hidden,
  );
  if (virtual.length === 0) return feeds;
  const slot: number[] = [];
  const isVirtual: number[] = [];
  let slots = 0;
  for (const segment of segments) {
    for (let index = 0; index < segmentLength(segment); index++) {
      isVirtual.push("ids" in segment ? 0 : 1);
      slot.push("ids" in segment ? 0 : slots++);
    }
  }
  const embeddings = new Float32Array(slots * hidden);
  let at = 0;
  for (const segment of virtual) {
    embeddings.set(segment.virtual, at);
    at += segment.virtual.length;
  }
  return {
    ...feeds,
    virtual: float32([slots, hidden], embeddings),
    slot: int64([slot.length], slot),
    is_virtual: { type: "bool", dims: [slot.length, 1], data: Uint8Array.from(isVirtual) },
  };
}

/** Keys and values of nothing, which all rows share. */
export function emptyPast({
  layers,
  kvHeads,
  headDim,
}: {
  layers: number;
  kvHeads: number;
  headDim: number;
}): Feeds {
  const none = float32([1, kvHeads, 0, headDim], new Float32Array(0));
  const names = Array.from({ length: layers }, (_, layer) => [`past_key.${layer}`, `past_value.${layer}`]);
  return Object.fromEntries(names.flat().map(name => [name, none]));
}

/** Where each row begins in the packed order. */
export const startsOf = (rows: readonly Row[]): number[] => {
  const starts: number[] = [];
  let next = 0;
  for (const row of rows) {
    starts.push(next);
    next += row.length;
  }
  return starts;
};

/** The last token of the trunk (-1) or of a branch, counted through the row. */
export const endOf = (row: Row, branch: number): number =>
  row.trunk + row.branches.slice(0, branch + 1).reduce((sum, length) => sum + length, 0) - 1;

/** A row's tokens: where each one's branch begins (null in the trunk), and its position. */
function* tokensOf({ past, trunk, branches }: Row): Generator<{ branch: number | null; position: number }> {
  for (let token = 0; token < trunk; token++) yield { branch: null, position: past + token };
  let start = trunk;
  for (const length of branches) {
    for (let token = 0; token < length; token++) yield { branch: start, position: past + trunk + token };
    start += length;
  }
}

/** Positions, the way between packed tokens and `rows × new`, and the mask. */
export function layout(rows: readonly Row[], past: number): Feeds {
  const width = Math.max(...rows.map(row => row.length));
  const starts = startsOf(rows);
  const positions = rows.flatMap(row => [...tokensOf(row)].map(token => token.position));
  const unpad = rows.flatMap((row, index) =>
    Array.from({ length: row.length }, (_, token) => index * width + token),
  );
  // Padding repeats the row's own first token: whatever it computes, no other row is touched.
  const pad = rows.flatMap((row, index) =>
    Array.from({ length: width }, (_, token) => starts[index]! + (token < row.length ? token : 0)),
  );
  return {
    positions: int64([positions.length], positions),
    unpad: int64([unpad.length], unpad),
    pad: int64([rows.length, width], pad),
    parts: int64([2], [past, width]),
    mask: float32([rows.length, 1, 1, width, past + width], maskOf(rows, past, width)),
  };
}

/** 0 where a token may look, -inf elsewhere: [rows, 1, 1, width, past + width]. Padding looks anywhere, so that it stays finite. */
function maskOf(rows: readonly Row[], past: number, width: number): Float32Array {
  const span = past + width;
  const mask = new Float32Array(rows.length * width * span);
  for (const [index, row] of rows.entries()) {
    let token = 0;
    for (const { branch } of tokensOf(row)) {
      const line = (index * width + token) * span;
      mask.fill(-Infinity, line + row.past, line + past);
      if (branch !== null) mask.fill(-Infinity, line + past + row.trunk, line + past + branch);
      mask.fill(-Infinity, line + past + token + 1, line + span);
      token++;
    }
  }
  return mask;
}

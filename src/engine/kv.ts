/** Keys and values kept on the JavaScript side: blocks that never change, and the pool in which rows decode. */

/** The cache of `length` positions: a key and a value a layer, float32 [kvHeads, length, headDim]. */
export interface KvBlock {
  readonly length: number;
  readonly key: readonly Float32Array[];
  readonly value: readonly Float32Array[];
}

export interface KvShape {
  readonly layers: number;
  readonly kvHeads: number;
  readonly headDim: number;
}

export const emptyBlock = ({ layers }: KvShape): KvBlock => {
  const none = Array.from({ length: layers }, () => new Float32Array(0));
  return { length: 0, key: none, value: none };
};

export const blockBytes = (block: KvBlock): number =>
  [...block.key, ...block.value].reduce((bytes, layer) => bytes + layer.byteLength, 0);

/** Bytes of one position in float32. */
export const positionBytes = ({ layers, kvHeads, headDim }: KvShape): number =>
  layers * kvHeads * headDim * 2 * 4;

export const totalLength = (blocks: readonly KvBlock[]): number =>
  blocks.reduce((sum, block) => sum + block.length, 0);

/** Copies blocks, one behind the other, into a row [kvHeads, capacity, headDim] of `target`; the rest becomes zero. */
export function copyRow(
  target: Float32Array,
  row: number,
  capacity: number,
  { kvHeads, headDim }: KvShape,
  parts: readonly { length: number; data: Float32Array }[],
): void {
  for (let head = 0; head < kvHeads; head++) {
    const start = (row * kvHeads + head) * capacity * headDim;
    let at = start;
    for (const { length, data } of parts) {
      const width = length * headDim;
      target.set(data.subarray(head * width, (head + 1) * width), at);
      at += width;
    }
    // What a row does not have is masked, but 0 · NaN is NaN: nothing stale may stay behind the mask.
    target.fill(0, at, start + capacity * headDim);
  }
}

/** Joins blocks into one. */
export function joinBlocks(blocks: readonly KvBlock[], shape: KvShape): KvBlock {
  const only = blocks.filter(block => block.length > 0);
  if (only.length === 1) return only[0]!;
  const length = totalLength(only);
  const join = (pick: (block: KvBlock) => readonly Float32Array[]) =>
    Array.from({ length: shape.layers }, (_, layer) => {
      const data = new Float32Array(shape.kvHeads * length * shape.headDim);
      copyRow(
        data,
        0,
        length,
        shape,
        only.map(block => ({ length: block.length, data: pick(block)[layer]! })),
      );
      return data;
    });
  return { length, key: join(block => block.key), value: join(block => block.value) };
}

/** Positions that the pool grows by: attention reads the room that is not used yet too, and growing moves all rows. */
const GRAIN = 32;
/** Positions a row that new buffers have more than they need: fresh memory costs several times what moving rows does. */
const HEADROOM = 64;

/**
 * The rows that decode, packed into one buffer a layer: [rows, kvHeads, capacity, headDim]. The runtime reads the first
 * `rows` of it without a copy; a step's new keys and values are written into their places; a row that leaves is
 * replaced by the last one. Buffers stay when the last row leaves, until `free`.
 */
export class DecodePool {
  readonly #shape: KvShape;
  #key: Float32Array[] = [];
  #value: Float32Array[] = [];
  #capacity = 0;
  readonly #lengths: number[] = [];

  constructor(shape: KvShape) {
    this.#shape = shape;
  }

  get rows(): number {
    return this.#lengths.length;
  }

  get capacity(): number {
    return this.#capacity;
  }

  length(row: number): number {
    return this.#lengths[row]!;
  }

  /** Takes a row in, with its past; returns its place. `expected` rows will be there soon: room is made once. */
  admit(past: readonly KvBlock[], expected = 1): number {
    const row = this.rows;
    const length = totalLength(past);
    this.#reserve(Math.max(row + 1, expected), length + 1);
    this.#lengths.push(length);
    for (let layer = 0; layer < this.#shape.layers; layer++) {
      const parts = (pick: "key" | "value") =>
        past.map(block => ({ length: block.length, data: block[pick][layer]! }));
      copyRow(this.#key[layer]!, row, this.#capacity, this.#shape, parts("key"));
      copyRow(this.#value[layer]!, row, this.#capacity, this.#shape, parts("value"));
    }
    return row;
  }

  /** Frees a row; returns the old place of the row that now stands there, or null when it was the last. */
  release(row: number): number | null {
    const last = this.rows - 1;
    const stride = this.#shape.kvHeads * this.#capacity * this.#shape.headDim;
    if (row !== last) {
      for (const layer of [...this.#key, ...this.#value])
        layer.copyWithin(row * stride, last * stride, (last + 1) * stride);
      this.#lengths[row] = this.#lengths[last]!;
    }
    this.#lengths.pop();
    if (this.rows === 0) this.#capacity = 0;
    else this.#shrink();
    return row === last ? null : last;
  }

  /** Makes room for one more position in every row, before a step. */
  prepare(): void {
    this.#reserve(this.rows, Math.max(...this.#lengths) + 1);
  }

  past(layer: number): { key: Float32Array; value: Float32Array } {
    const end = this.rows * this.#shape.kvHeads * this.#capacity * this.#shape.headDim;
    return { key: this.#key[layer]!.subarray(0, end), value: this.#value[layer]!.subarray(0, end) };
  }

  /** Appends the step's new position of every row: `key`, `value` [rows, kvHeads, 1, headDim] of one layer. */
  append(layer: number, key: Float32Array, value: Float32Array): void {
    const { kvHeads, headDim } = this.#shape;
    const [toKey, toValue] = [this.#key[layer]!, this.#value[layer]!];
    // Thousands of copies of a few numbers a step: a loop makes no objects for them, set(subarray) would.
    for (let row = 0; row < this.rows; row++) {
      for (let head = 0; head < kvHeads; head++) {
        const from = (row * kvHeads + head) * headDim;
        const to = ((row * kvHeads + head) * this.#capacity + this.#lengths[row]!) * headDim;
        for (let i = 0; i < headDim; i++) {
          toKey[to + i] = key[from + i]!;
          toValue[to + i] = value[from + i]!;
        }
      }
    }
  }

  /** Counts the appended position, once all layers have it. */
  advance(): void {
    for (let row = 0; row < this.rows; row++) this.#lengths[row]!++;
  }

  /** Gives the buffers back to the system, unless rows are there. */
  free(): void {
    if (this.rows > 0) return;
    this.#key = [];
    this.#value = [];
  }

  /** Where a long row has left: what others need not would be read every step, and each new row would take as much. */
  #shrink(): void {
    const { kvHeads, headDim } = this.#shape;
    const needed = inGrains(Math.max(...this.#lengths) + 1);
    if (2 * needed > this.#capacity) return;
    const [from, to] = [this.#capacity * headDim, needed * headDim];
    for (const layer of [...this.#key, ...this.#value])
      for (let lane = 1; lane < this.rows * kvHeads; lane++)
        layer.copyWithin(lane * to, lane * from, lane * from + to);
    this.#capacity = needed;
  }

  #reserve(rows: number, length: number): void {
    const { kvHeads, headDim, layers } = this.#shape;
    const floats = (rows: number, capacity: number) => rows * kvHeads * capacity * headDim;
    const capacity = length <= this.#capacity ? this.#capacity : inGrains(length);
    const fresh = floats(rows, capacity) > (this.#key[0]?.length ?? 0);
    if (!fresh && capacity === this.#capacity) return;
    const room = floats(Math.max(rows, Math.min(2 * this.rows, rows + 8)), capacity + HEADROOM);
    const grow = (old: Float32Array | undefined) => {
      const data = fresh ? new Float32Array(room) : old!;
      if (old) spread(old, data, this.rows * kvHeads, this.#capacity * headDim, capacity * headDim);
      return data;
    };
    // A layer at a time, so that old and new buffers of all layers never stand side by side.
    for (let layer = 0; layer < layers; layer++) {
      this.#key[layer] = grow(this.#key[layer]);
      this.#value[layer] = grow(this.#value[layer]);
    }
    this.#capacity = capacity;
  }
}

const inGrains = (length: number): number => Math.ceil(length / GRAIN) * GRAIN;

/** Lanes of width `from` become lanes of width `to`, the rest of each 0; both may be the same buffer. */
function spread(source: Float32Array, target: Float32Array, lanes: number, from: number, to: number): void {
  // From the last on: in one buffer, a lane only ever moves over those that have moved.
  for (let lane = lanes - 1; lane >= 0; lane--) {
    if (source === target) target.copyWithin(lane * to, lane * from, (lane + 1) * from);
    else target.set(source.subarray(lane * from, (lane + 1) * from), lane * to);
    target.fill(0, lane * to + from, (lane + 1) * to);
  }
}

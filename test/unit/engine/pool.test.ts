import fc from "fast-check";
import { expect, test } from "vitest";
import { DecodePool, type KvBlock } from "../../../src/engine/kv.ts";
import { checkNumbers } from "../../../src/engine/sampler.ts";

const shape = { layers: 2, kvHeads: 2, headDim: 3 };
let next = 1;
const fresh = (count: number) => Float32Array.from({ length: count }, () => next++);
const block = (length: number): KvBlock => {
  const layers = () =>
    Array.from({ length: shape.layers }, () => fresh(shape.kvHeads * length * shape.headDim));
  return { length, key: layers(), value: layers() };
};

/** A row as a list of positions, each [layer][key or value][head] → headDim numbers. */
type Position = number[][][][];
const positionsOf = ({ length, key, value }: KvBlock): Position[] =>
  Array.from({ length }, (_, position) =>
    key.map((_, layer) =>
      [key[layer]!, value[layer]!].map(data =>
        Array.from({ length: shape.kvHeads }, (_, head) => {
          const from = (head * length + position) * shape.headDim;
          return [...data.subarray(from, from + shape.headDim)];
        }),
      ),
    ),
  );

/** What the runtime would read of a row; behind its length there must be zeros. */
function read(pool: DecodePool, row: number): Position[] {
  const { kvHeads, headDim } = shape;
  const at = (data: Float32Array, head: number, position: number) => {
    const from = ((row * kvHeads + head) * pool.capacity + position) * headDim;
    return [...data.subarray(from, from + headDim)];
  };
  const all = Array.from({ length: pool.capacity }, (_, position) =>
    Array.from({ length: shape.layers }, (_, layer) => {
      const { key, value } = pool.past(layer);
      return [key, value].map(data => Array.from({ length: kvHeads }, (_, head) => at(data, head, position)));
    }),
  );
  for (const position of all.slice(pool.length(row))) expect(position.flat(3).every(x => x === 0)).toBe(true);
  return all.slice(0, pool.length(row));
}

const action = fc.oneof(
  fc.record({ admit: fc.integer({ min: 0, max: 170 }), expected: fc.integer({ min: 0, max: 6 }) }),
  fc.record({ release: fc.nat(9) }),
  fc.record({ step: fc.constant(true) }),
  fc.record({ free: fc.constant(true) }),
);

test("rows that come, grow and leave in any order, while idle memory is given back, keep their keys and values", () => {
  fc.assert(
    fc.property(fc.array(action, { maxLength: 30 }), actions => {
      const pool = new DecodePool(shape);
      const rows: Position[][] = [];
      for (const each of actions) {
        if ("admit" in each) {
          const past = [block(each.admit), block(1)];
          expect(pool.admit(past, each.expected)).toBe(rows.length);
          rows.push(past.flatMap(positionsOf));
        } else if (rows.length > 0 && "release" in each) {
          const row = each.release % rows.length;
          const moved = pool.release(row);
          const last = rows.pop()!;
          expect(moved).toBe(row === rows.length ? null : rows.length);
          if (row < rows.length) rows[row] = last;
          // No more than twice the room of the longest that is left.
          const longest = Math.max(...rows.map(({ length }) => length));
          if (rows.length > 0) expect(pool.capacity).toBeLessThan(2 * (longest + 1 + 32));
        } else if (rows.length > 0 && "step" in each) {
          pool.prepare();
          for (let layer = 0; layer < shape.layers; layer++) {
            const [key, value] = [0, 1].map(() => fresh(rows.length * shape.kvHeads * shape.headDim));
            pool.append(layer, key!, value!);
            for (const [row, positions] of rows.entries()) {
              const take = (data: Float32Array) =>
                Array.from({ length: shape.kvHeads }, (_, head) => {
                  const from = (row * shape.kvHeads + head) * shape.headDim;
                  return [...data.subarray(from, from + shape.headDim)];
                });
              if (layer === 0) positions.push([]);
              positions.at(-1)!.push([take(key!), take(value!)]);
            }
          }
          pool.advance();
        } else if ("free" in each) pool.free();
        expect(pool.rows).toBe(rows.length);
        for (const [row, positions] of rows.entries()) expect(read(pool, row)).toEqual(positions);
      }
    }),
    { numRuns: 40 },
  );
});

test("logits that are no numbers are refused, those that are ruled out are not", () => {
  expect(() => checkNumbers(Float32Array.of(1, -Infinity))).not.toThrow();
  for (const wrong of [NaN, Infinity])
    expect(() => checkNumbers(Float32Array.of(1, wrong))).toThrow(/not numbers/);
});

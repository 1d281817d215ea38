import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import fc from "fast-check";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { ForewordError } from "../../../src/errors.ts";
import { halfValues, toHalf } from "../../../src/tensor/half.ts";
import {
  openSafetensors,
  parseSafetensors,
  type TensorToWrite,
  writeSafetensors,
} from "../../../src/tensor/safetensors.ts";

let directory: string;
beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), "foreword-safetensors-"));
});
afterAll(() => rm(directory, { recursive: true }));

/** A file made by hand from a header and data, as a stranger would send it. */
function file(header: unknown, data = new Uint8Array(0), claimed?: bigint): Uint8Array {
  const json = Buffer.from(typeof header === "string" ? header : JSON.stringify(header));
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(claimed ?? BigInt(json.length));
  return Buffer.concat([length, json, data]);
}

const f32 = (shape: number[], begin: number, end: number) => ({
  dtype: "F32",
  shape,
  data_offsets: [begin, end],
});

describe("reading", () => {
  test("F32, F16 and BF16 become fp32", () => {
    const header = {
      __metadata__: { format: "pt" },
      a: f32([2], 0, 8),
      b: { dtype: "F16", shape: [1, 3], data_offsets: [8, 14] },
      c: { dtype: "BF16", shape: [2], data_offsets: [14, 18] },
      d: { dtype: "I64", shape: [], data_offsets: [18, 26] },
    };
    const data = Buffer.alloc(26);
    data.writeFloatLE(1.5, 0);
    data.writeFloatLE(-2.25, 4);
    data.writeUInt16LE(0x3c00, 8); // 1
    data.writeUInt16LE(0xc000, 10); // -2
    data.writeUInt16LE(0x3555, 12); // 0.333251953125
    data.writeUInt16LE(0x3f80, 14); // 1
    data.writeUInt16LE(0xc040, 16); // -3
    data.writeBigInt64LE(7n, 18);
    const parsed = parseSafetensors(file(header, data));
    expect(parsed.metadata).toEqual({ format: "pt" });
    expect([...parsed.read("a")]).toEqual([1.5, -2.25]);
    expect([...parsed.read("b")]).toEqual([1, -2, 0.333251953125]);
    expect([...parsed.read("c")]).toEqual([1, -3]);
    expect(parsed.tensors.get("b")?.dims).toEqual([1, 3]);
    expect(Buffer.from(parsed.readBytes("d")).readBigInt64LE()).toBe(7n);
    expect(() => parsed.read("d")).toThrow(/I64; store it as F32/);
    expect(() => parsed.read("e")).toThrow(/no tensor "e"; it has a, b, c, d/);
  });

  const data8 = new Uint8Array(8);
  test.each<[string, Uint8Array, RegExp]>([
    ["empty", new Uint8Array(0), /has 0 bytes/],
    ["cut in the length", file({}).subarray(0, 5), /has 5 bytes/],
    [
      "cut in the header",
      file({ a: f32([2], 0, 8) }, data8).subarray(0, 30),
      /claims \d+ bytes, 22 are there/,
    ],
    ["cut in the data", file({ a: f32([2], 0, 8) }, data8.subarray(1)), /outside the 7 bytes/],
    ["a lying length", file({}, data8, 2n ** 63n), /claims \d+ bytes/],
    ["not JSON", file("{]"), /not JSON/],
    ["not an object", file("[]"), /not a JSON object/],
    ["an entry that is no object", file({ a: 1 }), /not described by an object/],
    ["an unknown dtype", file({ a: { ...f32([2], 0, 8), dtype: "F31" } }, data8), /unknown dtype "F31"/],
    ["an inherited dtype", file({ a: { ...f32([2], 0, 8), dtype: "constructor" } }, data8), /unknown dtype/],
    ["a negative size", file({ a: f32([-2], 0, 8) }, data8), /not a list of sizes/],
    ["a fraction of a size", file({ a: f32([0.5], 0, 8) }, data8), /not a list of sizes/],
    ["sizes beyond all memory", file({ a: f32([2 ** 50, 2 ** 50], 0, 8) }, data8), /takes .* bytes/],
    ["another byte length", file({ a: f32([3], 0, 8) }, data8), /takes 12 bytes, data_offsets hold 8/],
    ["offsets backwards", file({ a: f32([2], 8, 0) }, data8), /outside/],
    [
      "one offset",
      file({ a: { ...f32([2], 0, 8), data_offsets: [8] } }, data8),
      /data_offsets \[begin, end\]/,
    ],
    ["an overlap", file({ a: f32([2], 0, 8), b: f32([1], 4, 8) }, data8), /"b" overlaps/],
    ["a hole", file({ a: f32([1], 4, 8) }, data8), /4 bytes before tensor "a"/],
    ["more at the end", file({ a: f32([1], 0, 4) }, data8), /4 bytes at its end/],
    ["metadata that are no texts", file({ __metadata__: { a: 1 } }), /map texts to texts/],
  ])("%s is refused with the caller's code", async (name, bytes, reason) => {
    expect(() => parseSafetensors(bytes)).toThrow(reason);
    expect(problemOf(() => parseSafetensors(bytes))).toBe("bad_tensor");
    const path = join(directory, name.replaceAll(" ", "-"));
    await writeFile(path, bytes);
    await expect(openSafetensors(path)).rejects.toThrow(reason);
    await expect(openSafetensors(path)).rejects.toMatchObject({ code: "bad_backbone" });
  });

  test("a header above the limit is refused before it is parsed", () => {
    const bytes = new Uint8Array(100_000_001 + 8);
    new DataView(bytes.buffer).setUint32(0, 100_000_001, true);
    expect(() => parseSafetensors(bytes)).toThrow(/the limit is 100000000/);
  });

  test("a file that is not there", async () => {
    await expect(openSafetensors(join(directory, "nothing"))).rejects.toThrow(/ENOENT/);
    await expect(openSafetensors(directory)).rejects.toThrow(/not a file/);
  });
});

const tensors = fc.uniqueArray(
  fc
    .record({
      name: fc.string({ minLength: 1 }).filter(name => name !== "__metadata__"),
      dims: fc.array(fc.integer({ min: 0, max: 4 }), { maxLength: 3 }),
      dtype: fc.constantFrom("F32" as const, "F16" as const),
      seed: fc.integer(),
    })
    .map(({ name, dims, dtype, seed }): TensorToWrite => {
      const count = dims.reduce((a, b) => a * b, 1);
      // Eighths below 128 are exact in binary16 too.
      const data = Float32Array.from({ length: count }, (_, i) => ((seed + i * 37) % 1024) / 8);
      return { name, dims, dtype, data };
    }),
  { selector: each => each.name, maxLength: 6 },
);

describe("writing", () => {
  test("what is written is read back, aligned", async () => {
    await fc.assert(
      fc.asyncProperty(tensors, fc.dictionary(fc.string(), fc.string()), async (written, metadata) => {
        const bytes = writeSafetensors(written, metadata);
        const path = join(directory, "round-trip");
        await writeFile(path, bytes);
        const onDisk = await openSafetensors(path);
        const inMemory = parseSafetensors(bytes);
        expect(inMemory.metadata).toEqual(metadata);
        expect(new Set(inMemory.tensors.keys())).toEqual(new Set(written.map(({ name }) => name)));
        for (const { name, dims, data, dtype } of written) {
          const info = inMemory.tensors.get(name)!;
          expect(info.dims).toEqual(dims);
          expect(info.dtype).toBe(dtype);
          expect(info.offset % (dtype === "F16" ? 2 : 4)).toBe(0);
          expect(inMemory.read(name)).toEqual(data);
          expect(await onDisk.read(name)).toEqual(data);
          expect(await onDisk.readBytes(name)).toEqual(new Uint8Array(inMemory.readBytes(name)));
        }
        await onDisk.close();
      }),
      { numRuns: 60 },
    );
  });

  test("a shape that does not hold the data, or a name twice, is the program's own mistake", () => {
    const data = new Float32Array(3);
    expect(() => writeSafetensors([{ name: "a", dims: [2], data }])).toThrow(RangeError);
    const a = { name: "a", dims: [3], data };
    expect(() => writeSafetensors([a, a])).toThrow(RangeError);
  });

  test("binary16: every value survives, and rounding is to the nearest, ties to even", () => {
    for (let bits = 0; bits < 65536; bits++) {
      const value = halfValues[bits]!;
      if (Number.isNaN(value)) expect(Number.isNaN(halfValues[toHalf(value)]!)).toBe(true);
      else expect(toHalf(value)).toBe(bits);
    }
    const positive = halfValues.subarray(0, 0x7c00);
    fc.assert(
      fc.property(fc.float({ min: 0, max: 65504, noNaN: true }), value => {
        const nearest = Math.min(
          ...[-1, 0, 1].map(d => Math.abs((positive[toHalf(value) + d] ?? 0) - value)),
        );
        expect(Math.abs(positive[toHalf(value)]! - value)).toBe(nearest);
      }),
    );
    expect(toHalf(1 + 2 ** -11)).toBe(0x3c00);
    expect(toHalf(1 + 3 * 2 ** -11)).toBe(0x3c02);
    expect(toHalf(65519)).toBe(0x7bff);
    expect(toHalf(65520)).toBe(0x7c00);
    expect(toHalf(-1e9)).toBe(0xfc00);
  });
});

describe("hostile bytes", () => {
  const sound = writeSafetensors(
    [
      { name: "soft", dims: [2, 3], data: Float32Array.from([1, 2, 3, 4, 5, 6]) },
      { name: "half", dims: [4], data: new Float32Array(4), dtype: "F16" },
    ],
    { format: "x" },
  );
  /** Reads all that a file claims to hold. */
  const use = (bytes: Uint8Array) => {
    const parsed = parseSafetensors(bytes);
    for (const name of parsed.tensors.keys()) parsed.read(name);
  };

  test("only a ForewordError is ever thrown, and soon", () => {
    const start = performance.now();
    const flips = fc.array(fc.tuple(fc.nat(sound.length - 1), fc.integer({ min: 1, max: 255 })), {
      maxLength: 4,
    });
    fc.assert(
      fc.property(fc.nat(sound.length), flips, (length, flipped) => {
        const bytes = sound.slice();
        for (const [at, mask] of flipped) bytes[at]! ^= mask;
        orProblem(() => use(bytes.subarray(0, length)));
        orProblem(() => use(bytes));
      }),
      { numRuns: 2000 },
    );
    fc.assert(
      fc.property(fc.json(), fc.bigInt({ min: 0n, max: 2n ** 64n - 1n }), (json, claimed) => {
        orProblem(() => use(file(json)));
        orProblem(() => use(file(json, new Uint8Array(16), claimed)));
      }),
    );
    expect(performance.now() - start).toBeLessThan(10_000);
  });
});

function problemOf(run: () => unknown): string {
  try {
    run();
  } catch (error) {
    if (error instanceof ForewordError) return error.code;
    throw error;
  }
  return "none";
}

function orProblem(run: () => void): void {
  expect(["none", "bad_tensor"]).toContain(problemOf(run));
}

import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import fc from "fast-check";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { ForewordError } from "../../../src/errors.ts";
import { ggmlTypes } from "../../../src/tensor/dequantize.ts";
import { type GgufFile, openGguf } from "../../../src/tensor/gguf.ts";
import { NeedMoreBytes } from "../../../src/tensor/gguf-cursor.ts";
import { parseGgufHeader } from "../../../src/tensor/gguf-header.ts";
import { describeBackbone } from "../../support/backbone.ts";

const fixture = fileURLToPath(new URL("../../fixtures/gguf/types.gguf", import.meta.url));

let directory: string;
let sound: Uint8Array;
beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), "foreword-gguf-"));
  sound = new Uint8Array(await readFile(fixture));
});
afterAll(() => rm(directory, { recursive: true }));

describe("a file written by the gguf package", () => {
  let file: GgufFile;
  beforeAll(async () => {
    file = await openGguf(fixture);
  });
  afterAll(() => file.close());

  test("metadata of every value type", async () => {
    const expected = JSON.parse(await readFile(fixture.replace(".gguf", ".json"), "utf8"));
    for (const [key, value] of Object.entries(expected)) {
      expect(file.metadata.get(`test.${key}`), key).toEqual(value);
    }
    expect(file.metadata.get("general.architecture")).toBe("test");
  });

  test.each([...ggmlTypes.values()].map(type => type.name))(
    "%s is decoded as the package decodes it",
    async name => {
      const expected = await file.read(`${name}.expected`);
      const is = await file.read(name);
      expect(file.tensors.get(name)?.type.name).toBe(name);
      expect(file.tensors.get(name)?.dims).toEqual([2, 512]);
      expect(is.length).toBe(1024);
      // One rounding to fp32 instead of two is the only difference allowed.
      for (const [at, value] of is.entries()) {
        const apart = Math.abs(value - expected[at]!);
        expect(apart, `${name}[${at}] ${value} ${expected[at]}`).toBeLessThanOrEqual(
          1e-6 * (1 + Math.abs(expected[at]!)),
        );
      }
    },
  );

  test("version 2 has the same layout", async () => {
    const bytes = sound.slice();
    bytes[4] = 2;
    const path = join(directory, "version-2");
    await writeFile(path, bytes);
    const old = await openGguf(path);
    expect(old.version).toBe(2);
    expect(await old.read("Q6_K")).toEqual(await file.read("Q6_K"));
    await old.close();
  });

  test("bytes of a part of a tensor", async () => {
    const whole = await file.readBytes("Q4_K");
    expect(whole.length).toBe(4 * 144);
    expect(await file.readBytes("Q4_K", 100, 50)).toEqual(whole.slice(100, 150));
    expect((await file.readBytes("Q4_K", 500, 1000)).length).toBe(76);
    await expect(file.read("nothing")).rejects.toThrow(/no tensor "nothing"/);
  });
});

/** A head made by hand: what is not given is empty. */
function head(
  { magic = "GGUF", version = 3, tensors = 0n, entries = 0n },
  ...rest: Uint8Array[]
): Uint8Array {
  const start = Buffer.alloc(24);
  start.write(magic, 0, "latin1");
  start.writeUInt32LE(version, 4);
  start.writeBigUInt64LE(tensors, 8);
  start.writeBigUInt64LE(entries, 16);
  return Buffer.concat([start, ...rest, Buffer.alloc(64)]);
}

const u32 = (value: number) => Buffer.from(Uint32Array.of(value).buffer);
const u64 = (value: bigint) => Buffer.from(BigUint64Array.of(value).buffer);
const text = (value: string) => Buffer.concat([u64(BigInt(Buffer.byteLength(value))), Buffer.from(value)]);
const tensor = (name: string, dims: bigint[], type: number, offset: bigint) =>
  Buffer.concat([text(name), u32(dims.length), ...dims.map(u64), u32(type), u64(offset)]);
const nested = (depth: number): Buffer =>
  depth === 0 ? Buffer.concat([u32(0), u64(0n)]) : Buffer.concat([u32(9), u64(1n), nested(depth - 1)]);

describe("what cannot be read is refused", () => {
  test.each<[string, Uint8Array, RegExp]>([
    ["empty", new Uint8Array(0), /ends within its head/],
    ["another magic", head({ magic: "GGML" }), /does not begin with "GGUF"/],
    ["version 1", head({ version: 1 }), /version 1 is unknown/],
    ["big-endian", head({ version: 0x03000000 }), /big-endian/],
    ["too many tensors", head({ tensors: 2n ** 62n }), /claims \d+ tensors/],
    ["too many entries", head({ entries: 2n ** 40n }), /claims \d+ metadata entries/],
    ["a text beyond the file", head({ entries: 1n }, u64(2n ** 35n)), /bytes of text/],
    [
      "an array beyond the file",
      head({ entries: 1n }, text("a"), u32(9), u32(0), u64(2n ** 34n)),
      /array elements/,
    ],
    ["nested arrays", head({ entries: 1n }, text("a"), u32(9), nested(6)), /nested more than 4 deep/],
    ["an unknown value type", head({ entries: 1n }, text("a"), u32(13)), /value type 13/],
    [
      "a key twice",
      head({ entries: 2n }, text("a"), u32(4), u32(1), text("a"), u32(4), u32(1)),
      /"a" is there twice/,
    ],
    ["a boolean of 2", head({ entries: 1n }, text("a"), u32(7), Buffer.of(2)), /a boolean holds 2/],
    ["an odd alignment", head({ entries: 1n }, text("general.alignment"), u32(4), u32(7)), /multiple of 8/],
    ["five dimensions", head({ tensors: 1n }, tensor("a", [1n, 1n, 1n, 1n, 1n], 0, 0n)), /5 dimensions/],
    [
      "a size beyond memory",
      head({ tensors: 1n }, tensor("a", [2n ** 40n, 2n ** 40n], 0, 0n)),
      /beyond any memory/,
    ],
    [
      "an undecoded type",
      head({ tensors: 1n }, tensor("a", [256n], 10, 0n)),
      /"a" is Q2_K, which is not decoded; take .*Q4_K/,
    ],
    ["an unknown type", head({ tensors: 1n }, tensor("a", [256n], 99, 0n)), /unknown type 99/],
    ["half a block", head({ tensors: 1n }, tensor("a", [16n], 8, 0n)), /not whole Q8_0 blocks of 32/],
    [
      "an unaligned offset",
      head({ tensors: 1n }, tensor("a", [1n], 0, 4n)),
      /not a multiple of the alignment 32/,
    ],
    ["a tensor beyond the end", head({ tensors: 1n }, tensor("a", [4000n], 0, 0n)), /fetch the whole file/],
    [
      "a tensor twice",
      head({ tensors: 2n }, tensor("a", [1n], 0, 0n), tensor("a", [1n], 0, 32n)),
      /"a" is there twice/,
    ],
    ["an overlap", head({ tensors: 2n }, tensor("a", [2n], 0, 0n), tensor("b", [2n], 0, 0n)), /"b" overlaps/],
  ])("%s", async (name, bytes, reason) => {
    const path = join(directory, name.replaceAll(" ", "-"));
    await writeFile(path, bytes);
    await expect(openGguf(path)).rejects.toThrow(reason);
    await expect(openGguf(path)).rejects.toMatchObject({ code: "bad_backbone" });
    await expect(openGguf(path, "bad_tensor")).rejects.toMatchObject({ code: "bad_tensor" });
  });

  test("a file cut anywhere", () => {
    fc.assert(
      fc.property(fc.nat(sound.length - 1), length => {
        expect(() => parse(sound.subarray(0, length))).toThrow(ForewordError);
      }),
    );
  });

  test("a head longer than what was read so far asks for more, and is then read", () => {
    expect(() => parseGgufHeader(sound.subarray(0, 100), sound.length, "bad_backbone", "x")).toThrow(
      NeedMoreBytes,
    );
    expect(parse(sound).tensors.size).toBe(24);
  });

  test("flipped bits and random bytes: a ForewordError or a file whose every tensor lies within it, soon", () => {
    const start = performance.now();
    const headEnd = Math.min(...[...parse(sound).tensors.values()].map(({ offset }) => offset));
    const flips = fc.array(fc.tuple(fc.nat(headEnd - 1), fc.integer({ min: 1, max: 255 })), {
      minLength: 1,
      maxLength: 4,
    });
    const check = (bytes: Uint8Array) => {
      try {
        for (const { offset, byteLength } of parse(bytes).tensors.values()) {
          expect(offset + byteLength).toBeLessThanOrEqual(bytes.length);
        }
      } catch (error) {
        expect(error).toBeInstanceOf(ForewordError);
      }
    };
    fc.assert(
      fc.property(flips, flipped => {
        const bytes = sound.slice();
        for (const [at, mask] of flipped) bytes[at]! ^= mask;
        check(bytes);
      }),
      { numRuns: 3000 },
    );
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 400 }), fc.nat(8), fc.nat(8), (tail, tensors, entries) => {
        check(head({ tensors: BigInt(tensors), entries: BigInt(entries) }, tail));
      }),
    );
    expect(performance.now() - start).toBeLessThan(20_000);
  });
});

describeBackbone("SmolLM2-135M", path => {
  test("all of it is decoded in a few seconds, a tensor at a time", async () => {
    const start = performance.now();
    const file = await openGguf(path);
    let values = 0;
    for (const name of file.tensors.keys()) values += (await file.read(name)).length;
    await file.close();
    expect(values).toBe(134_515_008);
    expect(performance.now() - start).toBeLessThan(10_000);
  });
});

const parse = (bytes: Uint8Array) => parseGgufHeader(bytes, bytes.length, "bad_backbone", "x");

import { createHash } from "node:crypto";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { ForewordError } from "../../../src/errors.ts";
import { type PromptFile, promptDigest, readPromptFile, writePromptFile } from "../../../src/prompt/file.ts";

const template = "{{ soft(2) }}Review: {{ input }}\n{{ soft(1) }}情感:";
const soft = { dims: [3, 4] as const, data: Float32Array.from({ length: 12 }, (_, i) => i / 8 - 1) };
const prefix = {
  dims: [2, 1, 5, 3] as const,
  key: Float32Array.from({ length: 30 }, (_, i) => i),
  value: Float32Array.from({ length: 30 }, (_, i) => -i),
};
const base = { template, backbone: "f".repeat(64), recipe: { steps: 300 } };
const softPrompt: PromptFile = { ...base, kind: "soft", soft };
const plain = { ...base, template: "{{ input }}" };

/** A safetensors file put together by hand, from the format's specification. */
function handmade(
  tensors: Record<string, { shape: number[]; values?: number[]; dtype?: string }>,
  metadata: Record<string, string> = {},
): Uint8Array {
  const header: Record<string, unknown> = {
    __metadata__: {
      format: "foreword-prompt/1",
      kind: "soft",
      template: "{{ soft(1) }}{{ input }}",
      backbone: "abc",
      recipe: "{}",
      ...metadata,
    },
  };
  const data: Buffer[] = [];
  let at = 0;
  for (const [name, { shape, values, dtype = "F32" }] of Object.entries(tensors)) {
    const count = shape.reduce((product, each) => product * each, 1);
    const floats = Float32Array.from(values ?? new Array(count).fill(0.5));
    const bytes = dtype === "BF16" ? Buffer.alloc(count * 2) : Buffer.from(floats.buffer);
    header[name] = { dtype, shape, data_offsets: [at, at + bytes.length] };
    at += bytes.length;
    data.push(bytes);
  }
  const json = Buffer.from(JSON.stringify(header));
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(json.length));
  return Buffer.concat([length, json, ...data]);
}

const problem = (bytes: Uint8Array): ForewordError => {
  try {
    readPromptFile(bytes);
  } catch (error) {
    if (error instanceof ForewordError) return error;
    throw error;
  }
  throw new Error("was taken");
};

describe("prompt file", () => {
  it.each<[string, PromptFile]>([
    ["soft", softPrompt],
    ["prefix", { ...plain, kind: "prefix", prefix }],
    ["mixed", { ...base, kind: "mixed", soft, prefix }],
    ["verbalizers of its own", { ...softPrompt, verbalizers: { spam: [" junk", " spam"], 好: "好" } }],
    ["hard", { ...plain, kind: "hard", recipe: null }],
  ])("reads what it wrote: %s", (_, file) => {
    expect(readPromptFile(writePromptFile(file))).toEqual(file);
  });

  it("writes the contract's names, shapes and metadata", () => {
    const bytes = writePromptFile({ ...base, kind: "mixed", soft, prefix });
    const length = Number(new DataView(bytes.buffer, bytes.byteOffset).getBigUint64(0, true));
    const header = JSON.parse(new TextDecoder().decode(bytes.subarray(8, 8 + length)));
    expect(header.__metadata__).toEqual({
      format: "foreword-prompt/1",
      kind: "mixed",
      template,
      backbone: "f".repeat(64),
      recipe: '{"steps":300}',
    });
    expect(header.soft).toMatchObject({ dtype: "F32", shape: [3, 4] });
    expect(header["prefix.key"]).toMatchObject({ dtype: "F32", shape: [2, 1, 5, 3] });
    expect(header["prefix.value"]).toMatchObject({ dtype: "F32", shape: [2, 1, 5, 3] });
  });

  it("stores halves when asked, which read back to three digits", () => {
    const bytes = writePromptFile(softPrompt, "F16");
    expect(bytes.length).toBeLessThan(writePromptFile(softPrompt).length);
    expect(readPromptFile(bytes).soft).toEqual(soft);
  });

  it("keeps what a prompt stands on as it is, in halves where that loses nothing", () => {
    const third = { dims: [1, 4] as const, data: new Float32Array(4).fill(1 / 3) };
    const below = [
      { template: "{{ soft(3) }}{{ input }}", soft },
      { template: "{{ soft(1) }}{{ input }}", soft: third },
    ];
    const bytes = writePromptFile(
      { ...softPrompt, soft: { ...soft, data: soft.data.map(() => 1 / 3) }, bases: below },
      "F16",
    );
    const header = new TextDecoder().decode(bytes.subarray(8, 1200));
    for (const [name, dtype] of [
      ["soft", "F16"],
      ["base.0.soft", "F16"],
      ["base.1.soft", "F32"],
    ])
      expect(header).toMatch(new RegExp(`"${name}":\\{"dtype":"${dtype}"`));
    const read = readPromptFile(bytes);
    expect(read.bases).toEqual(below);
    expect(read.soft!.data[0]).toBe(0.333251953125);
  });

  it("refuses halves of numbers that they have not", () => {
    const large = { dims: [3, 4] as const, data: new Float32Array(12).fill(70_000) };
    expect(() => writePromptFile({ ...softPrompt, soft: large }, "F16")).toThrow(/must be finite/);
  });

  it("takes any number of rows from one on for a slot with a start text", () => {
    const open = { template: "{{ soft('three tokens here') }}{{ input }}" };
    expect(readPromptFile(handmade({ soft: { shape: [3, 2] } }, open)).soft?.dims).toEqual([3, 2]);
    const both = { template: "{{ soft('start') }}{{ soft(4) }}{{ input }}" };
    expect(problem(handmade({ soft: { shape: [4, 2] } }, both)).message).toMatch(
      /5 positions or more.*4 rows/,
    );
  });

  const ok = { soft: { shape: [1, 4] } };
  it.each<[string, Uint8Array, RegExp]>([
    ["another format", handmade(ok, { format: "foreword-prompt/2" }), /foreword-prompt\/1/],
    ["no backbone", handmade(ok, { backbone: "" }), /fingerprint/],
    ["a recipe that is no JSON", handmade(ok, { recipe: "{" }), /recipe/],
    ["the wrong kind", handmade(ok, { kind: "prefix" }), /kind is "prefix", the tensors make it soft/],
    ["an unknown tensor", handmade({ ...ok, bias: { shape: [1] } }), /tensor "bias"/],
    ["too few dimensions", handmade({ soft: { shape: [4] } }), /"soft" has shape \[4\]/],
    ["no rows", handmade({ soft: { shape: [0, 4] } }), /shape \[0, 4\]/],
    ["more rows than slots", handmade({ soft: { shape: [2, 4] } }), /1 positions, tensor "soft" has 2 rows/],
    ["rows without slots", handmade(ok, { template: "{{ input }}" }), /0 positions.*1 rows/],
    ["slots without rows", handmade({}), /1 positions.*0 rows/],
    ["bfloat16", handmade({ soft: { shape: [1, 4], dtype: "BF16" } }), /BF16; store it as F32 or F16/],
    [
      "keys without values",
      handmade({ "prefix.key": { shape: [1, 1, 1, 2] } }, { kind: "prefix", template: "{{ input }}" }),
      /lacks tensor "prefix.value"/,
    ],
    [
      "keys and values of different shapes",
      handmade(
        { "prefix.key": { shape: [1, 1, 1, 2] }, "prefix.value": { shape: [1, 1, 2, 1] } },
        { kind: "prefix", template: "{{ input }}" },
      ),
      /prefix.key has shape \[1, 1, 1, 2\], prefix.value \[1, 1, 2, 1\]/,
    ],
  ])("refuses %s", (_, bytes, detail) => {
    const error = problem(bytes);
    expect(error.code).toBe("bad_tensor");
    expect(error.message).toMatch(detail);
  });

  it.each([Number.NaN, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY])("names the first %d", value => {
    const values = new Array(12).fill(0);
    values[7] = value;
    values[9] = Number.NaN;
    const key = { shape: [1, 2, 3, 2], values };
    const bytes = handmade(
      { "prefix.value": { shape: [1, 2, 3, 2] }, "prefix.key": key },
      { kind: "prefix", template: "{{ input }}" },
    );
    const error = problem(bytes);
    expect(error.message).toContain(`"prefix.key" has ${value} at [0, 1, 0, 1]`);
    expect(error.fields).toEqual({ tensor: "prefix.key", index: [0, 1, 0, 1] });
  });

  it("refuses a bad template by its own code, on writing too", () => {
    expect(problem(handmade(ok, { template: "no field" })).code).toBe("bad_template");
    expect(() => writePromptFile({ ...softPrompt, template: "{{ input }}" })).toThrow(ForewordError);
  });

  it("throws nothing but ForewordError, whatever the bytes", () => {
    const good = writePromptFile({ ...base, kind: "mixed", soft, prefix });
    const damaged = fc
      .array(fc.tuple(fc.nat(good.length - 1), fc.nat(255)), { minLength: 1, maxLength: 8 })
      .map(changes => {
        const bytes = Uint8Array.from(good);
        for (const [at, value] of changes) bytes[at] = value;
        return bytes;
      });
    const cut = fc.nat(good.length).map(end => good.slice(0, end));
    fc.assert(
      fc.property(fc.oneof(fc.uint8Array(), damaged, cut), bytes => {
        try {
          const { soft: rows, prefix: keys } = readPromptFile(bytes);
          expect([rows?.dims, keys?.dims]).toBeDefined();
        } catch (error) {
          expect(error).toBeInstanceOf(ForewordError);
        }
      }),
      { numRuns: 1000 },
    );
  });
});

describe("promptDigest", () => {
  it("changes with kind, template and parameters, and with where one ends", () => {
    const digests = [
      promptDigest("hard", "{{ a }}", null),
      promptDigest("soft", "{{ a }}", null),
      promptDigest("hard", "{{ b }}", null),
      promptDigest("hard", "{{ a }}", new Uint8Array([1])),
      promptDigest("hard", '{{ a }}"]', null),
    ];
    expect(new Set(digests).size).toBe(5);
    expect(digests[0]).toBe(createHash("sha256").update('["hard","{{ a }}"]').digest("hex"));
  });
});

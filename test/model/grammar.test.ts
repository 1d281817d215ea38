/**
 * JSON by schema: thousands of texts of random tokens, cut anywhere, against a schema validator that shares no code with
 * the grammars; and the schemas that can't be promised or met.
 */
import Ajv from "ajv/dist/2020.js";
import addFormats from "ajv-formats";
import { expect, test } from "vitest";
import { openBackbone } from "../../src/backbone/source.ts";
import { Tokenizer } from "../../src/backbone/tokenizer.ts";
import { Grammars } from "../../src/engine/grammars.ts";
import { promised } from "../../src/engine/json-schema.ts";
import { randomFrom } from "../../src/engine/sampler.ts";
import { describeBackbone } from "../support/backbone.ts";

const id = { type: "integer", minimum: 1 };
const tree = {
  type: "object",
  properties: { left: { anyOf: [{ $ref: "#/$defs/tree" }, { type: "null" }] }, value: { type: "integer" } },
  required: ["left", "value"],
};
const good: Record<string, object> = {
  anything: {},
  object: {
    type: "object",
    properties: {
      a: { type: "integer" },
      b: { type: "string" },
      c: { type: "number" },
      d: { type: "boolean" },
    },
    required: ["b", "d"],
  },
  "no type": { properties: { a: { type: "integer" } }, required: ["a"] },
  "properties of any name": { type: "object", additionalProperties: { type: "boolean" } },
  "any properties": { type: "object", properties: {}, additionalProperties: true },
  "no properties": { type: "object", properties: {}, additionalProperties: false },
  "names that are no ASCII": {
    type: "object",
    properties: { größe: id, 名: { type: "boolean" } },
    required: ["名"],
  },
  enum: { enum: ["x", 'q"\\', 3, null, { a: [1] }, "你好", "tab\t"] },
  "enum of special tokens' names": { enum: ["<|im_start|>", "<filename>", "<|im_end|>"] },
  "enum of a type": { type: "string", enum: ["a", 1, "b"] },
  const: { const: { a: [1, "q"] } },
  list: { type: "array", items: { type: "integer" }, minItems: 2, maxItems: 4 },
  tuple: { type: "array", prefixItems: [{ type: "integer" }, { type: "boolean" }], items: false },
  "tuple and more": {
    type: "array",
    prefixItems: [{ type: "integer" }, { type: "boolean" }],
    minItems: 3,
    maxItems: 5,
  },
  lengths: { type: "string", minLength: 3, maxLength: 6 },
  "short strings": { type: "array", items: { type: "string", maxLength: 3 }, minItems: 1 },
  pattern: { type: "string", pattern: "^[a-z]{2}-\\d+$" },
  telephone: { type: "string", pattern: "^(\\+\\d+ )?\\d{3}-\\d{4}$" },
  choice: { type: "string", pattern: "^(?:red|green){1,2}$" },
  "pattern anywhere": { type: "string", pattern: "[0-9]{3}" },
  uuid: { type: "string", format: "uuid" },
  range: { type: "integer", minimum: -50, maximum: 12_345 },
  "ranges beside each other": {
    type: "object",
    properties: {
      age: { type: "integer", minimum: 0, maximum: 120 },
      longitude: { type: ["integer", "null"], minimum: -180, maximum: 180 },
      rest: { type: "array", items: { type: "integer", minimum: -1091, maximum: -1047 }, minItems: 1 },
    },
    required: ["age", "longitude", "rest"],
  },
  "values that begin alike": { enum: ["aab", "a", "ab", "abab", "aaab", "aaaa", "b"] },
  least: { type: "integer", minimum: -5 },
  most: { type: "integer", maximum: -3 },
  between: { type: "integer", exclusiveMinimum: 3, exclusiveMaximum: 6 },
  "several types": { type: ["integer", "string", "null"], minLength: 2, minimum: 50 },
  "any of": {
    anyOf: [
      {
        type: "object",
        properties: { kind: { const: "a" }, v: id },
        required: ["kind", "v"],
        additionalProperties: false,
      },
      {
        type: "object",
        properties: { kind: { const: "b" } },
        required: ["kind"],
        additionalProperties: false,
      },
    ],
  },
  references: {
    $schema: "http://json-schema.org/draft-07/schema#",
    definitions: { yes: { type: "boolean", description: "whether" } },
    type: "object",
    properties: { y: { $ref: "#/definitions/yes" }, z: { $ref: "#/properties/y" } },
    required: ["y", "z"],
  },
  "references that are encoded": {
    type: "object",
    properties: {
      "a b": { type: "integer" },
      "c/d": { type: "array", items: { $ref: "#/properties/a%20b" }, minItems: 1 },
      größe: { type: "object", properties: { "x~y": { enum: [1] } }, required: ["x~y"] },
      e: { $ref: "#/properties/c~1d" },
      f: { $ref: "#/properties/gr%C3%B6%C3%9Fe" },
      g: { $ref: "#/properties/größe/properties/x~0y" },
      h: { $ref: "#/%24defs/named-0" },
    },
    required: ["a b", "c/d", "e", "f", "g", "h"],
    additionalProperties: false,
    $defs: { "named-0": { type: "boolean" } },
  },
  "recursion by an encoded name": {
    $ref: "#/$defs/a%20tree",
    $defs: {
      "a tree": {
        type: "object",
        properties: { left: { anyOf: [{ type: "null" }, { $ref: "#/$defs/a%20tree" }] } },
        required: ["left"],
      },
    },
  },
  "references into lists": {
    type: "object",
    properties: {
      a: { anyOf: [{ type: "integer" }, { type: "null" }] },
      b: { type: "array", prefixItems: [{ type: "boolean" }], items: { $ref: "#/properties/a/anyOf/1" } },
      c: { $ref: "#/properties/a/anyOf/0" },
      d: { $ref: "#/properties/b/prefixItems/0" },
      e: { $ref: "#/properties/b/items" },
      f: { type: "object", additionalProperties: { $ref: "#/properties/c" } },
    },
    required: ["a", "b", "c", "d", "e", "f"],
  },
  "recursion of the whole": {
    type: "object",
    properties: { a: { anyOf: [{ type: "null" }, { $ref: "#" }] } },
    required: ["a"],
  },
  "an $id of the whole": {
    $id: "https://example.com/a",
    $ref: "#/$defs/q",
    $defs: { q: { type: "boolean" } },
  },
  "a full tuple": { type: "array", prefixItems: [{ type: "integer" }, { type: "boolean" }], maxItems: 2 },
  "a full tuple of what follows": {
    type: "array",
    prefixItems: [{ const: 1 }],
    items: { const: 2 },
    maxItems: 1,
  },
  recursion: { $ref: "#/$defs/tree", $defs: { tree } },
  "nodes that need two more": {
    anyOf: [
      {
        type: "object",
        properties: { kind: { const: "add" }, left: { $ref: "#" }, right: { $ref: "#" } },
        required: ["kind", "left", "right"],
      },
      {
        type: "object",
        properties: { kind: { const: "num" }, value: { type: "integer" } },
        required: ["kind", "value"],
      },
    ],
  },
  "children that may be there, three of them": {
    type: "object",
    properties: { a: { type: "string" }, children: { type: "array", items: { $ref: "#" }, minItems: 3 } },
  },
  "as many items as may be": { type: "array", items: { type: "integer" }, minItems: 200 },
  "as long as may be": { type: "string", minLength: 1900, maxLength: 2000 },
};
const single = ["const", "no properties"];
/** Of each schema. */
const SAMPLES = 120;
const large = ["as many items as may be", "as long as may be"];
const LARGE_SAMPLES = 3;
/** Tokens by chance before the text is brought to its end. */
const LONGEST = 24;

const nested = (levels: number): object =>
  levels === 0 ? { type: "null" } : { anyOf: [nested(levels - 1), { type: "boolean" }] };
/** Each level names the one below twice: written out, 2 to the power of `levels`. */
const doubled = (levels: number): object => ({
  $ref: "#/$defs/l0",
  $defs: Object.fromEntries(
    Array.from({ length: levels + 1 }, (_, level) => [
      `l${level}`,
      level === levels
        ? { type: "null" }
        : {
            type: "object",
            properties: { a: { $ref: `#/$defs/l${level + 1}` }, b: { $ref: `#/$defs/l${level + 1}` } },
            required: level < levels - 3 ? [] : ["a", "b"],
          },
    ]),
  ),
});

const properties = (count: number, of: (each: number) => object): object => ({
  type: "object",
  properties: Object.fromEntries(Array.from({ length: count }, (_, each) => [`p${each}`, of(each)])),
});

const bad: [what: string, schema: object, says: RegExp][] = [
  ["a type that there is not", { type: "nonsense" }, /no JSON schema: must be one of array, boolean/],
  ["a length that is none", { type: "string", minLength: "3" }, /no JSON schema/],
  ["a reference to nowhere", { $ref: "#/nowhere" }, /nowhere/],
  ["a reference to elsewhere", { $ref: "https://example.com/schema" }, /where no schema stands/],
  ["a reference that is not encoded", { $ref: "#/$defs/%E0%A4" }, /where no schema stands/],
  [
    "a reference to what is no schema",
    { default: { type: "string", format: "email" }, $ref: "#/default" },
    /where no schema stands/,
  ],
  [
    "a reference to nothing",
    { default: null, anyOf: [{ $ref: "#/default" }, { $ref: "#/default" }] },
    /where no schema stands/,
  ],
  ["a schema without a bottom", nested(3000), /levels deep/],
  ["a schema without an end", { enum: Array.from({ length: 20_000 }, (_, each) => each) }, /parts/],
  ["a long string", { type: "string", minLength: 40_000 }, /"minLength" of 40000; at most 2000/],
  ["a string that may be long", { type: "string", maxLength: 100_000 }, /"maxLength" of 100000/],
  ["a long list", { type: "array", items: { type: "integer" }, minItems: 9000 }, /"minItems" of 9000/],
  ["a long pattern", { type: "string", pattern: "^([a-z]{1,100}){1,100}$" }, /pattern of more than 2000/],
  [
    "lists of lists",
    { type: "array", minItems: 100, items: { type: "array", minItems: 100, items: { type: "boolean" } } },
    /requires \d+ characters; at most 2000/,
  ],
  [
    "a list of what is shortest by a detour",
    {
      type: "array",
      minItems: 100,
      items: { $ref: "#/$defs/a" },
      $defs: {
        a: { anyOf: [{ type: "string", minLength: 500 }, { $ref: "#/$defs/b" }, { $ref: "#/$defs/a" }] },
        b: {
          type: ["object", "string"],
          properties: { c: { $ref: "#/$defs/c" } },
          required: ["c"],
          minLength: 300,
        },
        c: { type: "string", minLength: 38 },
      },
    },
    // A string of 38 is 40 characters, with {"c":…} 47, and a comma.
    /requires 4802 characters/,
  ],
  [
    "what requires much where it is there",
    {
      properties: {
        a: {
          properties: { b: { type: "string", minLength: 1999 } },
          required: ["b"],
        },
      },
    },
    /\/properties\/a\/properties\/b requires 2001 characters/,
  ],
  [
    "what requires much where it is not null",
    {
      type: ["object", "null"],
      properties: { b: { type: "string", minLength: 1990 }, c: { type: "string", minLength: 20 } },
      required: ["b", "c"],
    },
    // {"b":…,"c":…} with a comma too many.
    /the schema requires 2026 characters/,
  ],
  [
    "a tuple of long strings, all of which the grammars require",
    { type: "array", prefixItems: Array(30).fill({ type: "string", minLength: 100 }) },
    /requires 3092 characters/,
  ],
  [
    "many uuids",
    { type: "array", items: { type: "string", format: "uuid" }, minItems: 60 },
    /requires 2342 characters/,
  ],
  [
    "words beside a reference",
    { $ref: "#/$defs/a", maxLength: 2, $defs: { a: { type: "string" } } },
    /"maxLength" beside/,
  ],
  ["words beside alternatives", { type: "object", anyOf: [{ required: ["a"] }] }, /beside "anyOf"/],
  ["a pattern that is none", { type: "string", pattern: "(" }, /no JSON schema|pattern/],
  ["a pattern with anything in it", { type: "string", pattern: "^.+$" }, /pattern/],
  ["a range that covers quotes and backslashes", { type: "string", pattern: "^[ -~]+$" }, /neither quotes/],
  ["such a range, counted", { type: "string", pattern: "^[!-~]{3}$" }, /neither quotes/],
  ["a range that covers backslashes", { type: "string", pattern: "^[A-z]+$" }, /neither quotes/],
  ["a pattern that looks ahead", { type: "string", pattern: "^(?=a)a$" }, /pattern/],
  ["a pattern of two", { type: "string", pattern: "^a$|^b$" }, /pattern/],
  ["a pattern and a length", { type: "string", pattern: "^a+$", maxLength: 2 }, /beside a length/],
  [
    "a date",
    { type: "object", properties: { d: { type: "string", format: "date" } } },
    /\/properties\/d .*"date".*pattern/,
  ],
  ["distinct items", { type: "array", items: { type: "integer" }, uniqueItems: true }, /"uniqueItems"/],
  ["an item among them", { type: "array", contains: { const: 5 } }, /"contains"/],
  ["a multiple", { type: "integer", multipleOf: 7 }, /"multipleOf"/],
  ["bounds of a number", { type: "number", minimum: 0 }, /"minimum", which can't be promised of type number/],
  ["exactly one of", { oneOf: [{ type: "integer" }, { type: "number" }] }, /"oneOf".*anyOf/],
  ["all of", { allOf: [{ type: "object" }] }, /"allOf"/],
  ["not", { not: { type: "string" } }, /"not"/],
  ["if", { type: "object", if: {} }, /"if"/],
  ["counted properties", { type: "object", minProperties: 1 }, /"minProperties"/],
  ["a required property that is not described", { type: "object", required: ["z"] }, /requires "z"/],
  [
    "further properties of a type beside described ones",
    {
      properties: { a: { properties: { id }, required: ["id"], additionalProperties: { type: "boolean" } } },
    },
    /\/properties\/a has "additionalProperties" beside "properties".*Set it to false/,
  ],
  [
    "any further properties beside described ones",
    { type: "object", properties: { id }, additionalProperties: true },
    /"additionalProperties" beside.*describe all/,
  ],
  ["a name with a quote", { type: "object", properties: { 'a"b': {} } }, /quotes/],
  ["words of two types", { minLength: 2, minimum: 3 }, /Add "type"/],
  ["nothing", { type: "object", properties: { a: false }, required: ["a"] }, /can't be met/],
  ["an empty range", { type: "integer", minimum: 5, maximum: 3 }, /can't be met/],
  ["lengths the wrong way round", { type: "string", minLength: 5, maxLength: 3 }, /can't be met/],
  [
    "more items than there are",
    { type: "array", prefixItems: [{}], items: false, minItems: 2 },
    /can't be met/,
  ],
  [
    "an $id within",
    {
      $defs: { q: { type: "integer" } },
      properties: { a: { $id: "inner", $ref: "#/$defs/q", $defs: { q: { type: "string" } } } },
    },
    /\/properties\/a has an "\$id".*Leave it out/,
  ],
  [
    "more first items than items",
    { properties: { a: { prefixItems: [{ type: "string" }, { type: "integer" }], maxItems: 1 } } },
    /\/properties\/a has 2 "prefixItems", and a "maxItems" of 1. Leave out/,
  ],
  [
    "very many properties",
    { properties: { a: properties(257, () => ({})) } },
    /\/properties\/a has 257 .* at most 256/,
  ],
  [
    "very many different lengths",
    properties(60, each => ({ type: "string", maxLength: 20 + each })),
    /counts \d+ .* the lengths of strings; at most 1000 .* fewer different/,
  ],
  [
    "very many patterns",
    properties(60, each => ({ type: "string", pattern: `^\\w{1,${20 + each}}$` })),
    /most of it for patterns; at most 1000 .* Shorten/,
  ],
  [
    "very many lists",
    properties(60, each => ({ type: "array", items: { const: each }, maxItems: 500 })),
    /most of it for lists with bounds; .* Bound fewer/,
  ],
  [
    "very many properties of many objects",
    properties(22, () => properties(200, () => ({ type: "integer" }))),
    /most of it for properties; .* Describe fewer/,
  ],
  [
    "very many different ranges",
    {
      type: "array",
      prefixItems: Array.from({ length: 600 }, (_, each) => ({
        type: "integer",
        minimum: -(9e15 - each ** 5),
        maximum: 8e15 + each ** 5,
      })),
    },
    /most of it for integers with bounds; .* Bound fewer/,
  ],
  [
    "very many values",
    { enum: Array.from({ length: 9900 }, (_, each) => each) },
    /names and values; .* fewer/,
  ],
  ["very long values", { enum: ["b", "a".repeat(3_000_000)] }, /most of it for names and values; .* Shorten/],
  ["an enum of another type", { type: "string", enum: [1, 2] }, /can't be met/],
  [
    "what never ends",
    {
      $ref: "#/$defs/n",
      $defs: { n: { type: "object", properties: { n: { $ref: "#/$defs/n" } }, required: ["n"] } },
    },
    /\/\$defs\/n can't be met: what it requires never ends/,
  ],
  [
    "what need not be there, and never ends once it is begun",
    {
      type: "object",
      properties: { children: { type: "array", items: { $ref: "#/$defs/node" } } },
      $defs: {
        node: {
          type: "object",
          properties: { parent: { $ref: "#/$defs/node" } },
          required: ["parent"],
        },
      },
    },
    /\/\$defs\/node can't be met: what it requires never ends/,
  ],
];

test.each(bad)("%s is refused in words", (_, schema, says) => {
  expect(() => promised(schema as never)).toThrow(says);
  expect(() => promised(schema as never)).toThrow(/^json_schema: .*\.$/s);
});

test("a definition that nothing refers to may be whatever it is", () => {
  const long = { type: "string", minLength: 2000 };
  const schema = (items: object) => ({
    type: "array",
    items,
    $defs: { long, list: { type: "array", items: { $ref: "#/$defs/long" } } },
  });
  expect(() => promised(schema({ type: "integer" }) as never)).not.toThrow();
  expect(() => promised(schema({ $ref: "#/$defs/list" }) as never)).toThrow(/\/\$defs\/long requires 2002/);
});

test("lengths that are the same count once", () => {
  expect(() => promised(properties(200, () => ({ type: "string", maxLength: 300 })) as never)).not.toThrow();
});

test("ranges that are the same hardly count", () => {
  const range = { type: "integer", minimum: 0 };
  expect(() => promised({ type: "array", prefixItems: Array(900).fill(range) } as never)).not.toThrow();
});

test("integers count with all their digits for the shortest value", () => {
  const item = { type: "integer", maximum: -1_000_000_000 };
  // A sign, ten digits, and a comma.
  expect(() => promised({ type: "array", minItems: 200, items: item } as never)).toThrow(/requires 2402 /);
});

test("a schema that would be endless written out is read once", () => {
  expect(promised(doubled(40) as never)).toMatchObject({ $ref: "#/$defs/l0" });
  expect(() => promised({ ...doubled(14), $ref: "#/$defs/l0" } as never)).not.toThrow();
});

test("a chain of thousands of references is measured link by link", () => {
  const links = Array.from({ length: 4900 }, (_, at) => [`d${at}`, { $ref: `#/$defs/d${at + 1}` }]);
  const $defs = { ...Object.fromEntries(links), d4900: { type: "null" } };
  const started = performance.now();
  expect(() => promised({ $ref: "#/$defs/d0", $defs } as never)).not.toThrow();
  expect(performance.now() - started).toBeLessThan(4000);
});

test("an enum of a type takes no longer, however often it is asked", () => {
  const schema = { type: ["string", "null"], enum: ["a", 1, null, {}] };
  for (let asked = 0; asked < 3; asked++) expect(promised(schema as never)).toEqual({ enum: ["a", null] });
});

describeBackbone("JSON by schema", path => {
  const open = async () => {
    const source = await openBackbone(path);
    const tokenizer = Tokenizer.from((await source.tokenizerFiles())!, source.config.vocabSize);
    const grammars = new Grammars(tokenizer, source.config.vocabSize);
    await source.close();
    return { grammars, tokenizer, size: source.config.vocabSize };
  };
  const opened = open();
  const ajv = new Ajv.default({ strict: false, allowUnionTypes: true });
  (addFormats as unknown as (ajv: unknown) => void)(ajv);

  test.each(Object.entries(good))("%s: whatever is written, wherever it is cut", async (name, schema) => {
    const { grammars, tokenizer, size } = await opened;
    const { $schema, ...plain } = schema as { $schema?: string };
    const valid = ajv.compile(plain);
    const random = randomFrom(11);
    const texts = new Set<string>();
    const logits = new Float32Array(size);
    for (let sample = 0; sample < (large.includes(name) ? LARGE_SAMPLES : SAMPLES); sample++) {
      const constraint = await grammars.json(schema);
      const written: number[] = [];
      const length = Math.floor(random() * LONGEST);
      while (written.length < length && !tokenizer.eosIds.includes(written.at(-1)!)) {
        logits.fill(0);
        constraint.mask(logits);
        let allowed = 0;
        for (let token = 0; token < size; token++) if (logits[token] === 0) allowed++;
        let token = -1;
        for (let left = Math.floor(random() * allowed); left >= 0 && token < size; )
          if (logits[++token] === 0) left--;
        constraint.accept(token);
        written.push(token);
        await constraint.settled();
      }
      written.push(...(await constraint.close()));
      constraint.dispose();
      expect(tokenizer.eosIds).toContain(written.at(-1)!);
      const text = tokenizer.decode(written.slice(0, -1), { skipSpecial: true });
      expect(() => JSON.parse(text), text).not.toThrow();
      expect(valid(JSON.parse(text)), text).toBe(true);
      texts.add(text);
    }
    // Where a schema leaves a choice, the texts are not all the same.
    if (!single.includes(name)) expect(texts.size).toBeGreaterThan(1);
  });

  test("schemas that XGrammar gives up on are refused however often and however many at once, and spoil nothing", async () => {
    const { grammars, tokenizer, size } = await open();
    const fine = { type: "object", properties: { a: { type: "integer" } }, required: ["a"] };
    const before = await grammars.json(fine);
    const hopeless = { type: "string", pattern: "^a{3,1}$" };
    const refused = await Promise.allSettled([1, 2, 3].map(() => grammars.json(hopeless)));
    for (const result of refused)
      expect(result).toMatchObject({ status: "rejected", reason: { code: "validation" } });
    const after = await grammars.json(fine);
    const [brace] = tokenizer.encode("{");
    const [letter] = tokenizer.encode("z");
    for (const constraint of [before, after]) {
      const logits = new Float32Array(size);
      constraint.mask(logits);
      expect(logits[brace!]).toBe(0);
      expect(logits[letter!]).toBe(-Infinity);
      constraint.dispose();
    }
  });
});

/** What grammars of schemas allow, text by text, against what the schemas say: over a vocabulary of single characters. */
import { beforeAll, expect, test } from "vitest";
import type { Tokenizer } from "../../../src/backbone/tokenizer.ts";
import { schemaGrammar } from "../../../src/engine/json-grammar.ts";
import { JsonMatcher } from "../../../src/engine/json-matcher.ts";
import type { Schema } from "../../../src/engine/json-pointer.ts";
import { promised } from "../../../src/engine/json-schema.ts";
import { jsonTokens, Utf8 } from "../../../src/engine/json-tokens.ts";
import { randomFrom } from "../../../src/engine/sampler.ts";
import { loadXGrammar, type XGrammar } from "../../../src/engine/xgrammar.ts";

let xgrammar: XGrammar;
let compiler: Awaited<ReturnType<XGrammar["GrammarCompiler"]["createGrammarCompiler"]>>;
/** The first ends a text. */
const words = ["", ...Array.from({ length: 94 }, (_, each) => String.fromCharCode(33 + each))];
beforeAll(async () => {
  xgrammar = await loadXGrammar(() => {});
  const info = await xgrammar.TokenizerInfo.createTokenizerInfo(
    words,
    "byte_level",
    false,
    words.length,
    [0],
  );
  compiler = await xgrammar.GrammarCompiler.createGrammarCompiler(info, false);
});

/** Those that the schema's grammar allows. */
async function allowed(schema: object, texts: readonly string[]): Promise<string[]> {
  const text = await schemaGrammar(JSON.stringify(promised(schema as Schema)), xgrammar);
  const parsed = await xgrammar.Grammar.fromEBNF(text);
  const grammar = await compiler.compileGrammar(parsed);
  const matcher = await xgrammar.GrammarMatcher.createGrammarMatcher(grammar, undefined, true);
  const found = texts.filter(each => {
    matcher.reset();
    return matcher._acceptString(each) && matcher.isTerminated();
  });
  for (const each of [matcher, grammar, parsed]) each.dispose();
  return found;
}

const WIDEST = Number.MAX_SAFE_INTEGER;
const random = randomFrom(5);
const upTo = (end: number) => Math.floor(random() * end);
const one = <T>(of: readonly T[]): T => of[upTo(of.length)]!;
const several = <T>(least: number, most: number, of: () => T): T[] =>
  Array.from({ length: least + upTo(most - least + 1) }, of);

/** Of each length, and all about the bounds. */
function integersAbout(low: number, high: number): string[] {
  const about = (center: number) => Array.from({ length: 601 }, (_, each) => center - 300 + each);
  const powers = Array.from({ length: 17 }, (_, digits) => 10 ** digits - 1 + upTo(3));
  const all = [low, high, 0].flatMap(about).concat(powers.flatMap(each => [each, -each]));
  const within = several(50, 50, () => Math.round(low + random() * (high - low)));
  return [...new Set([...all, ...within].filter(Number.isSafeInteger).map(String))];
}

/** What is no integer of JSON, or of more digits than any bound. */
const odd = (low: number, high: number): string[] => [
  ...["", "-", "-0", "00", "01", "-01", "1.0", "1e1", `0${high}`, `-0${Math.abs(low)}`],
  ...["9".repeat(17), `-${"9".repeat(17)}`, "1".repeat(40)],
];

const ranges: [low: number, high: number][] = [
  ...([
    [0, 120],
    [0, 150],
    [-40, 125],
    [-180, 180],
    [13, 12_345],
    [-1091, -1047],
  ] as [number, number][]),
  ...([
    [48_562_000, 48_564_999],
    [-50, 12_345],
    [0, 0],
    [5, 5],
    [-7, -7],
    [-1, 0],
    [9, 10],
  ] as [number, number][]),
  ...([
    [1, WIDEST],
    [-WIDEST, -3],
    [-WIDEST, WIDEST],
    [WIDEST, WIDEST],
  ] as [number, number][]),
];

test.each(ranges)("integers from %i to %i are all allowed, and no others", async (minimum, maximum) => {
  await expectIntegers(minimum, maximum);
});

test("so are those of hundreds of ranges, wide and narrow, of any number of digits", async () => {
  const any = () => Math.round((random() * 2 - 1) * Math.min(WIDEST, 10 ** (random() * 16)));
  for (let each = 0; each < 150; each++) {
    const [low, other] = [any(), any()];
    await expectIntegers(Math.min(low, other), Math.max(low, other));
    await expectIntegers(low, Math.min(WIDEST, low + Math.floor(10 ** (random() * 5))));
  }
});

async function expectIntegers(minimum: number, maximum: number): Promise<void> {
  const integers = integersAbout(minimum, maximum);
  const found = await allowed({ type: "integer", minimum, maximum }, [...integers, ...odd(minimum, maximum)]);
  const meant = integers.filter(each => Number(each) >= minimum && Number(each) <= maximum);
  expect(found, `${minimum} to ${maximum}`).toEqual(meant);
}

const bounds: [what: string, schema: object, low: number, high: number][] = [
  ["one end", { minimum: 7 }, 7, WIDEST],
  ["the other", { maximum: -12 }, -WIDEST, -12],
  ["what they leave out", { exclusiveMinimum: 3, exclusiveMaximum: 121 }, 4, 120],
  ["fractions", { minimum: -0.5, exclusiveMaximum: 9.5 }, 0, 9],
  ["hardly anything", { exclusiveMinimum: -1e-20, maximum: 1e-20 }, 0, 0],
  ["more than is exact", { minimum: -1e300, maximum: 1e300 }, -WIDEST, WIDEST],
];

test.each(bounds)("integers with %s", async (_, schema, low, high) => {
  const integers = integersAbout(low, high);
  const meant = integers.filter(each => Number(each) >= low && Number(each) <= high);
  expect(await allowed({ type: "integer", ...schema }, integers)).toEqual(meant);
  expect(await allowed({ type: ["null", "integer"], ...schema }, ["null", ...integers, "true"])).toEqual([
    "null",
    ...meant,
  ]);
});

test("ranges stand by each other, wherever, and leave values that look like their rules alone", async () => {
  const enums = [1, 2, 'root ::= ( ( "1" ) )', '( ( "2" ) )', { type: "integer", minimum: 1, maximum: 2 }];
  const schema = {
    type: "array",
    prefixItems: [
      { type: "integer", minimum: 0, maximum: 120 },
      { enum: enums },
      { $ref: "#/$defs/month" },
      {
        anyOf: [
          { type: "integer", minimum: 10, maximum: 19 },
          { type: "integer", minimum: 15, maximum: 150 },
        ],
      },
    ],
    items: { type: "integer", minimum: 0, maximum: 120 },
    minItems: 4,
    $defs: { month: { type: "integer", minimum: 1, maximum: 12 } },
  };
  const right = [...enums.map(value => [120, value, 12, 150]), [0, 1, 1, 10, 0, 120]];
  const wrong = [
    ...[
      [121, 1, 1, 10],
      [0, 3, 1, 10],
      [0, 12, 1, 10],
      [0, 1, 13, 10],
      [0, 1, 1, 9],
      [0, 1, 1, 151],
      [0, 1, 1],
    ],
    ...[
      [0, 1, 1, 10, 121],
      [0, 1, 1, 199],
      [0, 1, 0, 10],
    ],
  ];
  const texts = [...right, ...wrong].map(value => JSON.stringify(value));
  expect(await allowed(schema, texts)).toEqual(texts.slice(0, right.length));
});

const word = (most = 5) => several(1, most, () => one([..."aab"])).join("");

test("values that begin alike are told apart", async () => {
  expect(await allowed({ enum: ["aab", "a"] }, ['"aab"', '"a"', '"aabab"', '"aaba"'])).toEqual([
    '"aab"',
    '"a"',
  ]);
  for (let each = 0; each < 300; each++) {
    const values = several(
      2,
      10,
      each % 3 === 0 ? () => several(1, 3, () => one([..."漢漣éè"])).join("") : word,
    );
    const mixed = values.flatMap(a =>
      values.flatMap(b => [...a].map((_, at) => a.slice(0, at + 1) + b.slice(at))),
    );
    const texts = [...new Set([...values, ...mixed])];
    const meant = texts.filter(text => values.includes(text)).map(text => JSON.stringify(text));
    const found = await allowed(
      { enum: values },
      texts.map(text => JSON.stringify(text)),
    );
    expect(found, values.join()).toEqual(meant);
  }
});

const short = [""];
for (const text of short) if (short.length < 250) short.push(`${text}a`, `${text}b`);

test("patterns whose alternatives begin alike are told apart", async () => {
  const pattern = (depth: number): string => {
    const ways = [
      () => one(["a", "b", "[ab]", "a*", "b+", "a?", "[ab]{2}"]),
      () => pattern(depth - 1) + pattern(depth - 1),
    ];
    const nested = [
      () => `(${pattern(depth - 1)}|${pattern(depth - 1)})`,
      () => `(${pattern(depth - 1)})${one(["*", "+", "?", "{1,2}"])}`,
    ];
    return depth === 0 ? ways[0]!() : one([...ways, ...nested, nested[0]!])();
  };
  const known = ["((a[ab]|[ab])a|aa)", "(a(b[ab]|b)|([ab]a|([ab]|a))a)", "(a*ab|b)"];
  for (const each of [...known, ...several(200, 200, () => pattern(3))]) {
    const expression = new RegExp(`^${each}$`, "u");
    const found = await allowed(
      { type: "string", pattern: `^${each}$` },
      short.map(text => `"${text}"`),
    );
    expect(found, each).toEqual(short.filter(text => expression.test(text)).map(text => `"${text}"`));
  }
});

test("alternatives of any kinds that begin alike are told apart", async () => {
  const kinds: (() => [schema: object, fits: (value: unknown) => boolean])[] = [
    () => {
      const value = word();
      return [{ const: value }, other => other === value];
    },
    () => {
      const length = upTo(3);
      return [
        { type: "string", minLength: length, maxLength: length },
        other => typeof other === "string" && other.length === length,
      ];
    },
    () => {
      const pattern = one(["^a*b$", "^(a*ab|b)$", "^[ab]{2}$"]);
      return [
        { type: "string", pattern },
        other => typeof other === "string" && new RegExp(pattern).test(other),
      ];
    },
    () => {
      const low = upTo(30) - 10;
      const high = low + upTo(40);
      const schema = { type: "integer", minimum: low, maximum: high };
      return [schema, other => typeof other === "number" && other >= low && other <= high];
    },
  ];
  const values = [...Array.from({ length: 150 }, (_, each) => each - 20), ...short.slice(0, 60), null];
  for (let each = 0; each < 200; each++) {
    const parts = several(2, 4, () => one(kinds)());
    const schema = { anyOf: parts.map(([part]) => part) };
    const meant = values.filter(value => parts.some(([, fits]) => fits(value)));
    const found = await allowed(
      schema,
      values.map(value => JSON.stringify(value)),
    );
    expect(found, JSON.stringify(schema)).toEqual(meant.map(value => JSON.stringify(value)));
  }
});

test("a tuple has all its items, whatever minItems says", async () => {
  const tuple = { type: "array", prefixItems: [{ type: "integer" }, { type: "boolean" }], items: false };
  expect(await allowed({ ...tuple, minItems: 1 }, ["[]", "[1]", "[1,true]"])).toEqual(["[1,true]"]);
});

/** The text that was begun and what closes it; null where that never ends. */
async function closed(schema: object, begun: string): Promise<string | null> {
  const tokens = jsonTokens(
    {
      specialIds: [],
      eosIds: [0],
      vocabularyType: "byte_level",
      vocabulary: () => words,
      decode: ([id]: [number]) => words[id],
    } as unknown as Tokenizer,
    words.length,
  );
  const parsed = await xgrammar.Grammar.fromEBNF(await schemaGrammar(JSON.stringify(schema), xgrammar));
  const grammar = await compiler.compileGrammar(parsed);
  const matcher = new JsonMatcher(
    await xgrammar.GrammarMatcher.createGrammarMatcher(grammar),
    tokens,
    new Utf8(tokens),
    new Map(tokens.signs),
  );
  for (const character of begun) matcher.accept(words.indexOf(character));
  const ending = await matcher.close();
  for (const each of [matcher, grammar, parsed]) each.dispose();
  return ending && begun + ending.map(id => words[id]).join("");
}

const self = { $ref: "#" };
const node = (name: string, more: object) => ({
  type: "object",
  properties: { kind: { const: name }, ...more },
  required: ["kind", ...Object.keys(more)],
});
const listOf = (least: number) => ({ type: "array", items: self, minItems: least });
const closings: [what: string, schema: object, begun: string, most: number][] = [
  ["a property that leads back", { type: "object", properties: { a: self } }, '{"a":{"', 30],
  ["a list of what leads back", { type: "object", properties: { a: listOf(3) } }, '{"a":[', 60],
  [
    "nodes and leaves",
    { anyOf: [node("add", { a: self, b: self }), node("num", { c: { const: 1 } })] },
    '{"',
    600,
  ],
  [
    "nodes, and leaves of a shorter name",
    { anyOf: [node("node", { a: listOf(4) }), node("n", {})] },
    '{"',
    600,
  ],
  ["lists or numbers", { anyOf: [listOf(5), { const: 1 }] }, "[[", 40],
  ["a pattern with a way out", { type: "string", pattern: "^[a-z]+,[A-Z,]+\\d$" }, '"ab', 200],
  ["a bracket in a string", { type: "array", items: { type: "string" }, minItems: 2 }, '["a{\\"[', 30],
];

test.each(closings)("a text that was cut has its end soon: %s", async (_, schema, begun, most) => {
  const text = await closed(promised(schema as Schema) as object, begun);
  expect(() => JSON.parse(text!), text!).not.toThrow();
  expect(await allowed(schema, [text!])).toEqual([text]);
  expect(text!.length).toBeLessThan(most);
});

test("a text without an end is not taken for one that has it", async () => {
  expect(await closed({ type: "object", properties: { a: self }, required: ["a"] }, "{")).toBeNull();
});

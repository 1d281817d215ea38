/**
 * Which JSON schemas (draft 2020-12) can be promised. The grammars leave some keywords unheeded, and get some wrong; a
 * schema that has one of them is refused before any work, so that what is generated always satisfies it.
 */
import { Ajv2020 } from "ajv/dist/2020.js";
import { type ForewordError, invalid } from "../errors.ts";
import { compileCost, MOST_COST } from "./json-cost.ts";
import { canPromise, isRegExp, patternLength } from "./json-pattern.ts";
import { type Described, escaped, pointerOf, type Schema } from "./json-pointer.ts";
import { plainReferences } from "./json-references.ts";
import { shortestLengths } from "./json-shortest.ts";

type Kind = "object" | "array" | "string" | "integer" | "number" | "boolean" | "null";

const kinds: readonly Kind[] = ["object", "array", "string", "integer", "number", "boolean", "null"];

/** What each type may say of itself. */
const keywords: { readonly [Type in Kind]: readonly string[] } = {
  object: ["properties", "required", "additionalProperties"],
  array: ["items", "prefixItems", "minItems", "maxItems"],
  string: ["minLength", "maxLength", "pattern", "format"],
  integer: ["minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"],
  number: [],
  boolean: [],
  null: [],
};
const ofTypes = new Set(Object.values(keywords).flat());

/** What stands for a whole schema: nothing else may say more of the value. */
const whole = ["$ref", "anyOf", "enum", "const"] as const;

/** What says nothing of the value. */
const notes = new Set(
  "$schema $id $comment $defs definitions title description default examples deprecated readOnly writeOnly".split(
    " ",
  ),
);

const remedies: Readonly<Record<string, string>> = {
  oneOf: 'Use "anyOf"',
  allOf: "Write its parts as one schema",
  format: 'Only "uuid" is promised; use "pattern" for others',
};

const WIDEST = Number.MAX_SAFE_INTEGER;

/** Bounds of a string and of a list: grammars grow with them, and with the square of how many items are required. */
const LONGEST = 2000;
const MOST_ITEMS = 200;
/** Properties of one object: the time that it compiles for grows with their square. */
const MOST_PROPERTIES = 256;
/** Characters of the shortest value of any part: what a limit of tokens cuts is written to its end at once. */
const SHORTEST = 2000;
/** How deep the schema may nest, and how large it may be. */
const DEEPEST = 64;
const LARGEST = 10_000;

const validator = new Ajv2020({ strict: false, validateFormats: false, logger: false });

/** The schema as the grammars keep it. Throws `validation`, with the place, where it can't be promised or met. */
export function promised(schema: Schema, field = "json_schema"): Schema {
  return new Promised(schema, field).all();
}

class Promised {
  readonly #root: Schema;
  readonly #field: string;
  /** What a reference may name: schemas as they are kept, by their JSON pointer (RFC 6901); and the references. */
  readonly #places = new Map<string, Schema>();
  readonly #references: { reference: string; pointer: string; at: string }[] = [];

  constructor(root: Schema, field: string) {
    this.#root = root;
    this.#field = field;
  }

  all(): Schema {
    this.#measure();
    // Whatever draft it names, it is read as this one.
    const plain = typeof this.#root === "object" ? { ...this.#root, $schema: undefined } : this.#root;
    const valid = validator.validateSchema(plain as object);
    if (valid !== true) {
      const [first] = validator.errors ?? [];
      const wrong =
        first?.keyword === "enum"
          ? `must be one of ${first.params.allowedValues.join(", ")}`
          : first?.message;
      throw this.#refusal(first?.instancePath ?? "", `is no JSON schema: ${wrong ?? "it is malformed"}`);
    }
    const schema = this.#schema(this.#root, "");
    for (const { reference, pointer, at } of this.#references)
      if (!this.#places.has(pointer))
        throw this.#refusal(
          at,
          `refers to ${JSON.stringify(reference)}, where no schema stands. Refer to "#/$defs/…"`,
        );
    this.#mustEnd();
    const { total, most, remedy } = compileCost(schema);
    if (total > MOST_COST)
      throw this.#refusal(
        "",
        `counts ${Math.ceil(total)} for the time that it compiles, most of it for ${most}; at most ${MOST_COST} can be promised. ${remedy}`,
      );
    plainReferences(this.#places, this.#references);
    return schema;
  }

  /** Wherever a text is cut: what is optional may have been begun. */
  #mustEnd(): void {
    const lengths = shortestLengths(this.#places, this.#references);
    const reached = this.#reached();
    const endless = [...lengths].filter(([at, length]) => length > SHORTEST && reached.has(definitionOf(at)));
    // The fault lies in the place that a reference leads to, rather than in the reference.
    const [at, length] = endless.find(([at]) => !hasReference(this.#places.get(at)!)) ?? endless[0] ?? [];
    if (at === undefined) return;
    throw this.#refusal(
      at,
      length === Number.POSITIVE_INFINITY
        ? "can't be met: what it requires never ends. Require less, or allow null"
        : `requires ${length} characters; at most ${SHORTEST} can be promised. Require less`,
    );
  }

  /** Definitions that something refers to, from the schema itself on, which is "". */
  #reached(): Set<string> {
    const leads = new Map<string, Set<string>>();
    for (const { at, pointer } of this.#references) {
      const from = definitionOf(at);
      leads.set(from, (leads.get(from) ?? new Set()).add(definitionOf(pointer)));
    }
    const reached = new Set([""]);
    for (const definition of reached) for (const next of leads.get(definition) ?? []) reached.add(next);
    return reached;
  }

  /** Before anything walks through it by recursion. */
  #measure(): void {
    const open = [{ value: this.#root as unknown, depth: 0 }];
    for (let seen = 0; open.length > 0; seen++) {
      const { value, depth } = open.pop()!;
      if (depth > DEEPEST) throw this.#refusal("", `is more than ${DEEPEST} levels deep. Use "$defs"`);
      if (seen > LARGEST) throw this.#refusal("", `has more than ${LARGEST} parts. Write a smaller one`);
      if (typeof value === "object" && value !== null)
        for (const each of Object.values(value)) open.push({ value: each, depth: depth + 1 });
    }
  }

  #schema(schema: Schema, at: string): Schema {
    if (schema === false) throw this.#refusal(at, "can't be met: false allows nothing");
    const kept = schema === true ? {} : this.#kept(schema, at);
    this.#places.set(at, kept);
    return kept;
  }

  #kept(schema: Described, at: string): Described {
    if (at !== "" && "$id" in schema)
      throw this.#refusal(
        at,
        'has an "$id", which would change what references within it mean. Leave it out, and refer to "#/…" from the whole schema',
      );
    const said = Object.keys(schema).filter(keyword => !notes.has(keyword));
    const definitions = this.#each(schema, ["$defs", "definitions"], at);
    const one = whole.find(keyword => said.includes(keyword));
    const value = one ? this.#whole(schema, one, said, at) : this.#typed(schema, said, at);
    return { ...value, ...definitions };
  }

  /** The schemas that stand under each of the keywords, by name. */
  #each(schema: object, names: readonly string[], at: string): Record<string, Schema> {
    const found = Object.entries(schema).filter(([keyword]) => names.includes(keyword));
    return Object.fromEntries(
      found.map(([keyword, group]) => [
        keyword,
        Object.fromEntries(
          Object.entries(group as object).map(([name, each]) => [
            name,
            this.#schema(each, `${at}/${keyword}/${escaped(name)}`),
          ]),
        ),
      ]),
    );
  }

  #whole(schema: Described, keyword: (typeof whole)[number], said: string[], at: string): Described {
    const values = keyword === "enum" || keyword === "const";
    const other = said.find(each => each !== keyword && !(values && each === "type"));
    if (other !== undefined)
      throw this.#refusal(
        at,
        `has "${other}" beside "${keyword}", which can't be promised together. Leave one out`,
      );
    if (keyword === "$ref") {
      const reference = schema.$ref as string;
      this.#references.push({ reference, pointer: pointerOf(reference), at });
      return { $ref: reference };
    }
    if (keyword === "anyOf")
      return {
        anyOf: (schema.anyOf as Schema[]).map((each, index) => this.#schema(each, `${at}/anyOf/${index}`)),
      };
    const given = keyword === "enum" ? (schema.enum as unknown[]) : [schema.const];
    const { type } = schema;
    const allowed =
      type === undefined ? given : given.filter(each => [type].flat().some(one => isOf(one as Kind, each)));
    if (allowed.length === 0)
      throw this.#refusal(at, `can't be met: no value of "${keyword}" is of its type`);
    return { enum: allowed };
  }

  #typed(schema: Described, said: string[], at: string): Described {
    const types = this.#types(schema, said, at);
    // Bounds can be promised for integers alone, not if any number is allowed.
    const allowed = types
      .filter(type => type !== "integer" || !types.includes("number"))
      .flatMap(type => keywords[type]);
    const other = said.find(keyword => keyword !== "type" && !allowed.includes(keyword));
    if (other !== undefined) {
      const why = ofTypes.has(other) ? `can't be promised of type ${types.join(", ")}` : "can't be promised";
      throw this.#refusal(at, `has "${other}", which ${why}. ${remedies[other] ?? "Leave it out"}`);
    }
    const { items, prefixItems, additionalProperties } = schema as Record<string, Schema>;
    return {
      ...schema,
      ...(types.length > 0 && { type: types.length === 1 ? types[0] : types }),
      ...this.#each(schema, ["properties"], at),
      ...(types.includes("object") && this.#object(schema, at)),
      ...(typeof additionalProperties === "object" && {
        additionalProperties: this.#schema(additionalProperties, `${at}/additionalProperties`),
      }),
      ...(typeof items === "object" && { items: this.#schema(items, `${at}/items`) }),
      ...(Array.isArray(prefixItems) && {
        prefixItems: prefixItems.map((each, index) => this.#schema(each, `${at}/prefixItems/${index}`)),
      }),
      ...(types.includes("array") && this.#array(schema, at)),
      ...(types.includes("string") && this.#string(schema, at)),
      ...(types.includes("integer") && this.#integer(schema, at)),
    };
  }

  /** Its types; what it says of one alone makes that its type. None: anything. */
  #types({ type }: { readonly type?: unknown }, said: readonly string[], at: string): Kind[] {
    if (type !== undefined) return [type].flat() as Kind[];
    const meant = kinds.filter(kind => keywords[kind].some(keyword => said.includes(keyword)));
    if (meant.length > 1) throw this.#refusal(at, 'says what several types would. Add "type"');
    return meant;
  }

  #object(
    {
      properties = {},
      required = [],
      additionalProperties = false,
    }: { properties?: object; required?: string[]; additionalProperties?: Schema },
    at: string,
  ): object {
    const missing = required.find(name => !Object.hasOwn(properties, name));
    if (missing !== undefined)
      throw this.#refusal(
        at,
        `requires ${JSON.stringify(missing)}, which is none of its properties. Describe it there`,
      );
    const count = Object.keys(properties).length;
    if (count > MOST_PROPERTIES)
      throw this.#refusal(
        at,
        `has ${count} properties; at most ${MOST_PROPERTIES} of one object can be promised. Group them in objects`,
      );
    // The grammars take a described name for a further one's too: its value may be of another type, or come twice.
    if (count > 0 && additionalProperties !== false)
      throw this.#refusal(
        at,
        'has "additionalProperties" beside "properties", which can\'t be promised together. Set it to false, or describe all properties',
      );
    const odd = Object.keys(properties).find(name => JSON.stringify(name) !== `"${name}"`);
    if (odd !== undefined)
      throw this.#refusal(
        at,
        `has the property ${JSON.stringify(odd)}; quotes, backslashes and control characters in names can't be promised`,
      );
    return {};
  }

  #array(schema: Described, at: string): object {
    const {
      prefixItems = [],
      items,
      minItems = 0,
      maxItems = Number.POSITIVE_INFINITY,
    } = schema as { prefixItems?: Schema[]; items?: Schema; minItems?: number; maxItems?: number };
    this.#range(schema, "minItems", "maxItems", at);
    if (prefixItems.length > maxItems)
      throw this.#refusal(
        at,
        `has ${prefixItems.length} "prefixItems", and a "maxItems" of ${maxItems}. Leave out those that can't be there`,
      );
    if (minItems > MOST_ITEMS)
      throw this.#refusal(
        at,
        `has a "minItems" of ${minItems}; at most ${MOST_ITEMS} can be promised. Lower it or leave it out`,
      );
    if (items === false && minItems > prefixItems.length)
      throw this.#refusal(at, `can't be met: it has ${prefixItems.length} items, and needs ${minItems}`);
    // Where nothing is said of further items, the grammars allow none.
    if (items === undefined && minItems > prefixItems.length) return { items: {} };
    return {};
  }

  #string(schema: Described, at: string): object {
    const { pattern, format } = schema as { pattern?: string; format?: string };
    this.#range(schema, "minLength", "maxLength", at);
    if (format !== undefined && format !== "uuid")
      throw this.#refusal(
        at,
        `has the format ${JSON.stringify(format)}, which can't be promised. ${remedies.format}`,
      );
    if (pattern === undefined) return {};
    if (["minLength", "maxLength", "format"].some(keyword => keyword in schema))
      throw this.#refusal(at, 'has "pattern" beside a length or a format. Let the pattern say it');
    if (!isRegExp(pattern))
      throw this.#refusal(
        at,
        'has a "pattern" that is no regular expression (ECMA-262, Unicode). Correct it',
      );
    if (patternLength(pattern) > LONGEST)
      throw this.#refusal(at, `has a pattern of more than ${LONGEST} characters. Repeat less, or use * or +`);
    if (!canPromise(pattern))
      throw this.#refusal(
        at,
        `has the pattern ${JSON.stringify(pattern)}; letters, digits, \\d, \\w, classes that cover neither quotes nor backslashes, groups, (a|b) and repetition can be promised. Use these`,
      );
    return {};
  }

  /** Both ends, which the rules of integers need; as wide as what is exact in JavaScript. */
  #integer(schema: Described, at: string): object {
    const { minimum, maximum, exclusiveMinimum, exclusiveMaximum, ...rest } = schema as Record<
      string,
      number | undefined
    >;
    const ends = [minimum, maximum, exclusiveMinimum, exclusiveMaximum];
    if (ends.every(end => end === undefined)) return {};
    const low = Math.max(
      Math.ceil(minimum ?? -WIDEST),
      Math.floor(exclusiveMinimum ?? -WIDEST - 1) + 1,
      -WIDEST,
    );
    const high = Math.min(
      Math.floor(maximum ?? WIDEST),
      Math.ceil(exclusiveMaximum ?? WIDEST + 1) - 1,
      WIDEST,
    );
    if (low > high)
      throw this.#refusal(at, `can't be met: no integer is at least ${low} and at most ${high}`);
    return { ...rest, minimum: low, maximum: high, exclusiveMinimum: undefined, exclusiveMaximum: undefined };
  }

  #range(schema: Described, least: string, most: string, at: string): void {
    const [low, high] = [schema[least] ?? 0, schema[most] ?? Number.POSITIVE_INFINITY] as [number, number];
    if (low > high) throw this.#refusal(at, `can't be met: ${least} is ${low}, ${most} is ${high}`);
    const [said, limit] = high < Number.POSITIVE_INFINITY ? [most, high] : [least, low];
    if (limit > LONGEST)
      throw this.#refusal(
        at,
        `has a "${said}" of ${limit}; at most ${LONGEST} can be promised. Lower it or leave it out`,
      );
  }

  #refusal(at: string, what: string): ForewordError {
    const place = at === "" ? "the schema" : at;
    return invalid(this.#field, `${place} ${what}.`);
  }
}

const hasReference = (schema: Schema): boolean => typeof schema === "object" && "$ref" in schema;

const isOf = (type: Kind, value: unknown): boolean => {
  switch (type) {
    case "object":
      return typeof value === "object" && value !== null && !Array.isArray(value);
    case "array":
      return Array.isArray(value);
    case "integer":
      return Number.isInteger(value);
    case "null":
      return value === null;
    default:
      return typeof value === type;
  }
};

/** The definition that a place is part of, the innermost one; "" if it is part of none. */
const definitionOf = (pointer: string): string =>
  /^.*\/(?:\$defs|definitions)\/[^/]+/.exec(pointer)?.[0] ?? "";

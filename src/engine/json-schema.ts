/**
 * Which JSON schemas (draft 2020-12) can be promised. The grammars leave some keywords unheeded, and get some wrong; a
 * schema that has one of them is refused before any work, so that what is generated always satisfies it.
 */
import { Ajv2020 } from "ajv/dist/2020.js";
import { ForewordError } from "../errors.ts";

type Described = { readonly [keyword: string]: unknown };
export type Schema = boolean | Described;
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

/** Letters, digits, what is escaped, plain classes, groups, alternatives in groups, repetition. */
const PATTERN =
  /^\^?(?:[\w @#%&,:;=!<>~'`/-]|\\[dw]|\\[.+*?()[\]{}|^$/]|\[(?:[\w @#%&,:;=!<>~'`/.+*()-]|\\[dw.+*()/])+\]|\((?:\?:|(?!\?))|\)|\||[*+?]|\{\d+(?:,\d*)?\})*\$?$/;

const WIDEST = Number.MAX_SAFE_INTEGER;

const validator = new Ajv2020({ strict: false, validateFormats: false, logger: false });

/** The schema as the grammars keep it. Throws `validation`, with the place, where it can't be promised or met. */
export function promised(schema: Schema, field = "json_schema"): Schema {
  return new Promised(schema, field).all();
}

class Promised {
  readonly #root: Schema;
  readonly #field: string;

  constructor(root: Schema, field: string) {
    this.#root = root;
    this.#field = field;
  }

  all(): Schema {
    // Whatever draft it names, it is read as this one.
    const plain = typeof this.#root === "object" ? { ...this.#root, $schema: undefined } : this.#root;
    const valid = validator.validateSchema(plain as object);
    if (valid !== true) {
      const [first] = validator.errors ?? [];
      throw this.#refusal(
        first?.instancePath ?? "",
        `is no JSON schema: ${first?.message ?? "it is malformed"}`,
      );
    }
    const schema = this.#schema(this.#root, "");
    if (!this.#ends(this.#root, [])) throw this.#refusal("", "can't be met: what it requires never ends");
    return schema;
  }

  #schema(schema: Schema, at: string): Schema {
    if (schema === false) throw this.#refusal(at, "can't be met: false allows nothing");
    if (schema === true) return {};
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
            this.#schema(each, `${at}/${keyword}/${name}`),
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
      this.#resolve(schema.$ref as string, at);
      return { $ref: schema.$ref };
    }
    if (keyword === "anyOf")
      return {
        anyOf: (schema.anyOf as Schema[]).map((each, index) => this.#schema(each, `${at}/anyOf/${index}`)),
      };
    const given = keyword === "enum" ? (schema.enum as unknown[]) : [schema.const];
    const { type } = schema;
    const allowed =
      type === undefined ? given : given.filter(each => validator.validate({ type } as object, each));
    if (allowed.length === 0)
      throw this.#refusal(at, `can't be met: no value of "${keyword}" is of its type`);
    return { enum: allowed };
  }

  #typed(schema: Described, said: string[], at: string): Described {
    const types = this.#types(schema, said, at);
    // What bounds integers bounds numbers too, where it can't be promised.
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
    { properties = {}, required = [] }: { properties?: object; required?: string[] },
    at: string,
  ): object {
    const missing = required.find(name => !Object.hasOwn(properties, name));
    if (missing !== undefined)
      throw this.#refusal(
        at,
        `requires ${JSON.stringify(missing)}, which is none of its properties. Describe it there`,
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
    } = schema as { prefixItems?: Schema[]; items?: Schema; minItems?: number };
    this.#range(schema, "minItems", "maxItems", at);
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
    if (!isRegExp(pattern) || !PATTERN.test(pattern) || hasOpenChoice(pattern))
      throw this.#refusal(
        at,
        `has the pattern ${JSON.stringify(pattern)}; letters, digits, \\d, \\w, classes of them, groups, (a|b) and repetition can be promised. Use these`,
      );
    return {};
  }

  /** Both ends: with one alone the grammars lose the sign. */
  #integer(schema: Described, at: string): object {
    const { minimum, maximum, exclusiveMinimum, exclusiveMaximum, ...rest } = schema as Record<
      string,
      number | undefined
    >;
    const ends = [minimum, maximum, exclusiveMinimum, exclusiveMaximum];
    if (ends.every(end => end === undefined)) return {};
    const low = Math.max(
      Math.ceil(minimum ?? -WIDEST),
      Math.floor((exclusiveMinimum ?? -WIDEST - 1) + 1),
      -WIDEST,
    );
    const high = Math.min(
      Math.floor(maximum ?? WIDEST),
      Math.ceil((exclusiveMaximum ?? WIDEST + 1) - 1),
      WIDEST,
    );
    if (low > high)
      throw this.#refusal(at, `can't be met: no integer is at least ${low} and at most ${high}`);
    return { ...rest, minimum: low, maximum: high, exclusiveMinimum: undefined, exclusiveMaximum: undefined };
  }

  #range(schema: Described, least: string, most: string, at: string): void {
    const [low, high] = [schema[least] ?? 0, schema[most] ?? Number.POSITIVE_INFINITY] as [number, number];
    if (low > high) throw this.#refusal(at, `can't be met: ${least} is ${low}, ${most} is ${high}`);
  }

  #resolve(reference: string, at: string): Schema {
    const path = /^#((?:\/[^/]*)*)$/.exec(reference)?.[1];
    let found: unknown = path === undefined ? undefined : this.#root;
    for (const part of path?.split("/").slice(1) ?? []) {
      const name = decodeURIComponent(part).replaceAll("~1", "/").replaceAll("~0", "~");
      found = (found as Record<string, unknown> | undefined)?.[name];
    }
    if (found === undefined)
      throw this.#refusal(
        at,
        `refers to ${JSON.stringify(reference)}, which is nowhere in it. Refer to "#/$defs/…"`,
      );
    return found as Schema;
  }

  /** Whether some value of it has an end; a shortest one never comes through the same reference twice. */
  #ends(schema: Schema, through: readonly string[]): boolean {
    if (typeof schema === "boolean") return schema;
    const {
      $ref,
      anyOf,
      properties = {},
      required = [],
    } = schema as {
      $ref?: string;
      anyOf?: Schema[];
      properties?: Record<string, Schema>;
      required?: string[];
    };
    if ($ref !== undefined)
      return !through.includes($ref) && this.#ends(this.#resolve($ref, ""), [...through, $ref]);
    if (anyOf) return anyOf.some(each => this.#ends(each, through));
    const {
      items = true,
      prefixItems = [],
      minItems = 0,
    } = schema as { items?: Schema; prefixItems?: Schema[]; minItems?: number };
    const needed = Array.from(
      { length: Math.min(minItems, prefixItems.length + 1) },
      (_, at) => prefixItems[at] ?? items,
    );
    return [...required.map(name => properties[name]!), ...needed].every(each => this.#ends(each, through));
  }

  #refusal(at: string, what: string): ForewordError {
    const place = at === "" ? "the schema" : at;
    return new ForewordError("validation", `${this.#field}: ${place} ${what}.`, { field: this.#field });
  }
}

function isRegExp(pattern: string): boolean {
  try {
    return new RegExp(pattern, "u") !== null;
  } catch {
    return false;
  }
}

/** Whether alternatives stand outside of all groups, where anchors would belong to one of them. */
function hasOpenChoice(pattern: string): boolean {
  let depth = 0;
  for (const [part] of pattern.matchAll(/\\.|\[(?:\\.|[^\]])*\]|./g)) {
    if (part === "(") depth++;
    else if (part === ")") depth--;
    else if (part === "|" && depth === 0) return true;
  }
  return false;
}

/** Places of a JSON schema (RFC 6901). */

export type Described = { readonly [keyword: string]: unknown };
export type Schema = boolean | Described;

/** A property's name as a pointer has it. */
export const escaped = (name: string): string => name.replaceAll("~", "~0").replaceAll("/", "~1");

/** The pointer that a reference within the schema names: "/$defs/a b" for "#/$defs/a%20b". Other texts name no place. */
export function pointerOf(reference: string): string {
  try {
    return decodeURIComponent(reference.replace(/^#/, ""));
  } catch {
    return reference;
  }
}

/** A schema and all that it holds. */
export function* within(schema: unknown): Generator<Described> {
  if (typeof schema !== "object" || schema === null) return;
  const part = schema as Described;
  yield part;
  const { $defs = {}, definitions = {}, properties = {}, prefixItems = [], anyOf = [] } = part;
  for (const group of [$defs, definitions, properties, prefixItems, anyOf])
    for (const each of Object.values(group as object)) yield* within(each);
  for (const each of [part.items, part.additionalProperties]) yield* within(each);
}

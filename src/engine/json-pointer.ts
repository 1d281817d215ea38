/** Places of a JSON schema (RFC 6901). */

export type Described = { readonly [keyword: string]: unknown };
export type Schema = boolean | Described;

/** A property's name as a pointer has it. */
export const escaped = (name: string): string => name.replaceAll("~", "~0").replaceAll("/", "~1");

/** Of a reference within the schema: "#/$defs/a%20b" is "/$defs/a b". What is none names no place. */
export function pointerOf(reference: string): string {
  try {
    return decodeURIComponent(reference.replace(/^#/, ""));
  } catch {
    return reference;
  }
}

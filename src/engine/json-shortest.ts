/** How long the shortest value of a JSON schema is. */
import { patternLength } from "./json-pattern.ts";
import { pointerOf, type Schema } from "./json-pointer.ts";

interface Parts {
  type?: string | string[];
  $ref?: string;
  anyOf?: Schema[];
  enum?: unknown[];
  properties?: Record<string, Schema>;
  required?: string[];
  items?: Schema;
  prefixItems?: Schema[];
  minItems?: number;
  minLength?: number;
  pattern?: string;
}

/**
 * Characters of the schema at "", at most; infinite where no value ever ends. `places` has schemas by their JSON
 * pointer, with the types that they mean. What references name is worked out in rounds, from nothing known to nothing
 * new (Knuth 1977), since they may lead back to where they stand.
 */
export function shortestLength(
  places: ReadonlyMap<string, Schema>,
  references: readonly { pointer: string }[],
): number {
  const known = new Map<string, number>();
  const ofReference = (pointer: string) => known.get(pointer) ?? Number.POSITIVE_INFINITY;
  const named = new Set(references.map(({ pointer }) => pointer));
  for (let changed = true; changed; ) {
    changed = false;
    for (const pointer of named) {
      const length = shortest(places.get(pointer)!, ofReference);
      changed ||= length < ofReference(pointer);
      known.set(pointer, length);
    }
  }
  return shortest(places.get("")!, ofReference);
}

function shortest(schema: Schema, ofReference: (pointer: string) => number): number {
  if (schema === true) return 1;
  if (schema === false) return Number.POSITIVE_INFINITY;
  const parts = schema as Parts;
  const of = (part: Schema) => shortest(part, ofReference);
  if (parts.$ref !== undefined) return ofReference(pointerOf(parts.$ref));
  if (parts.anyOf) return Math.min(...parts.anyOf.map(of));
  if (parts.enum) return Math.min(...parts.enum.map(value => JSON.stringify(value).length));

  const { properties = {}, required = [], items = true, prefixItems = [], minItems = 0 } = parts;
  const types = new Set([parts.type ?? []].flat());
  const fields = required.reduce((sum, name) => sum + name.length + 4 + of(properties[name]!), 2);
  const further = Math.max(0, minItems - prefixItems.length);
  const first = prefixItems.slice(0, minItems).reduce((sum: number, item) => sum + of(item) + 1, 2);
  const list = further === 0 ? first : first + further * (of(items) + 1);
  const text = 2 + (parts.pattern === undefined ? (parts.minLength ?? 0) : patternLength(parts.pattern));
  if (types.size === 0) return 1;
  const lengths: Record<string, number> = {
    object: fields,
    array: list,
    string: text,
    integer: 1,
    number: 1,
  };
  return Math.min(...[...types].map(type => lengths[type] ?? 4));
}

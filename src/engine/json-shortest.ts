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
  minimum?: number;
  maximum?: number;
  minLength?: number;
  pattern?: string;
}

/**
 * Characters of the schema at "", at most; infinite where no value ever ends. `places` has schemas by their JSON
 * pointer, with the types that they mean. Names are settled from the shortest on (Knuth 1977), since they may lead back
 * to where they stand: no value is shorter than what it refers to, so each reference is followed once.
 */
export function shortestLength(
  places: ReadonlyMap<string, Schema>,
  references: readonly { pointer: string }[],
): number {
  const settled = new Map<string, number>();
  const ofReference = (pointer: string) => settled.get(pointer) ?? Number.POSITIVE_INFINITY;
  /** What waits for a name to be settled, and names with a value, which may become shorter. */
  const waiting = new Map<string, string[]>();
  const open = new Map<string, number>();
  const lookAt = (pointer: string, of = ofReference) => {
    const length = shortest(places.get(pointer)!, of);
    if (length < Number.POSITIVE_INFINITY) open.set(pointer, length);
  };
  for (const { pointer } of references) waiting.set(pointer, []);
  for (const pointer of waiting.keys())
    lookAt(pointer, name => {
      waiting.get(name)!.push(pointer);
      return Number.POSITIVE_INFINITY;
    });
  while (open.size > 0) {
    let [next, least] = ["", Number.POSITIVE_INFINITY];
    // Of those as short the last: what refers to many is worked out anew for few of them.
    for (const [pointer, length] of open) if (length <= least) [next, least] = [pointer, length];
    open.delete(next);
    settled.set(next, least);
    for (const pointer of waiting.get(next)!) if (!settled.has(pointer)) lookAt(pointer);
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
    // What is nearest to 0.
    integer: String(Math.max(parts.minimum ?? 0, Math.min(0, parts.maximum ?? 0))).length,
    number: 1,
  };
  return Math.min(...[...types].map(type => lengths[type] ?? 4));
}

/** How long the shortest values of a JSON schema and of its parts are. */
import { patternLength } from "./json-pattern.ts";
import { pointerOf, type Schema } from "./json-pointer.ts";

/** With its hyphens. */
const UUID = 36;

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
  format?: "uuid";
}

/**
 * Characters of each place's shortest value, at most, of whichever of its types was begun; infinite where none ever
 * ends. `places` has schemas by their JSON pointer, with the types that they mean, and what a schema holds before
 * itself. Names are settled from the shortest on (Knuth 1977), since they may lead back to where they stand: no value is
 * shorter than what it refers to, so each reference is followed once.
 */
export function shortestLengths(
  places: ReadonlyMap<string, Schema>,
  references: readonly { pointer: string }[],
): Map<string, number> {
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
    // The last of equally short ones: then what refers to many of them is worked out anew for few.
    for (const [pointer, length] of open) if (length <= least) [next, least] = [pointer, length];
    open.delete(next);
    settled.set(next, least);
    for (const pointer of waiting.get(next)!) if (!settled.has(pointer)) lookAt(pointer);
  }
  // What a schema holds is measured before it, so nothing is walked through twice.
  const measured = new Map<Schema, number>();
  return new Map(
    [...places].map(([pointer, schema]) => {
      const least = (part: Schema) => shortest(part, ofReference, measured);
      measured.set(schema, least(schema));
      const types = [(schema as Parts).type ?? []].flat();
      const each = types.map(type => least({ ...(schema as Parts), type }));
      return [pointer, Math.max(measured.get(schema)!, ...each)];
    }),
  );
}

function shortest(
  schema: Schema,
  ofReference: (pointer: string) => number,
  measured?: ReadonlyMap<Schema, number>,
): number {
  if (schema === true) return 1;
  if (schema === false) return Number.POSITIVE_INFINITY;
  const parts = schema as Parts;
  const of = (part: Schema) => measured?.get(part) ?? shortest(part, ofReference, measured);
  if (parts.$ref !== undefined) return ofReference(pointerOf(parts.$ref));
  if (parts.anyOf) return Math.min(...parts.anyOf.map(of));
  if (parts.enum) return Math.min(...parts.enum.map(value => JSON.stringify(value).length));

  const { properties = {}, required = [], items = true, prefixItems = [], minItems = 0 } = parts;
  const types = new Set([parts.type ?? []].flat());
  const fields = required.reduce((sum, name) => sum + name.length + 4 + of(properties[name]!), 2);
  const further = Math.max(0, minItems - prefixItems.length);
  // The grammars require all of them, whatever minItems says.
  const first = prefixItems.reduce((sum, item) => sum + of(item) + 1, 2);
  const list = further === 0 ? first : first + further * (of(items) + 1);
  const least = Math.max(parts.minLength ?? 0, parts.format === "uuid" ? UUID : 0);
  const text = 2 + (parts.pattern === undefined ? least : patternLength(parts.pattern));
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

/** References of a JSON schema as XGrammar takes them: names of letters and digits, nothing encoded, no places in lists. */
import type { Described, Schema } from "./json-pointer.ts";

const PLAIN = /^(?:\/(?:\$defs|definitions|properties)\/[\w$-]+)*$/;

/**
 * A part that is referred to by any other pointer moves to the root's definitions, and leaves a reference in its old
 * place. `places` has schemas by their pointer, the root at ""; they are changed.
 */
export function plainReferences(
  places: ReadonlyMap<string, Schema>,
  references: readonly { pointer: string; at: string }[],
): void {
  const root = places.get("") as { $defs?: Record<string, Schema> };
  const plain = new Map<string, string>();
  for (const { pointer, at } of references) {
    if (!plain.has(pointer))
      plain.set(pointer, PLAIN.test(pointer) ? pointer : free(root.$defs ?? {}, plain.size));
    (places.get(at) as { $ref: string }).$ref = `#${plain.get(pointer)}`;
  }
  for (const [pointer, to] of plain) {
    if (pointer === to) continue;
    const place = places.get(pointer) as Record<string, unknown>;
    const moved: Described = { ...place };
    for (const keyword of Object.keys(place)) delete place[keyword];
    place.$ref = `#${to}`;
    root.$defs = { ...root.$defs, [to.slice("/$defs/".length)]: moved };
  }
}

/** A pointer to a definition that there is none of yet. */
function free(taken: object, number: number): string {
  const name = `named-${number}`;
  return name in taken ? free(taken, number + 10_000) : `/$defs/${name}`;
}

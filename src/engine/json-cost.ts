/** How long a JSON schema compiles, measured with XGrammar 0.1.27: a unit is about 12 ms on two cores of 2024. */
import { patternLength } from "./json-pattern.ts";
import { type Described, type Schema, within } from "./json-pointer.ts";

/** The cost of all kinds together; a schema of 1,000 compiles for some 12 s. */
export const MOST_COST = 1000;

/** Longer strings and lists compile no longer: XGrammar counts them. */
const COUNTED = 200;

export interface Cost {
  /** The cost of all kinds together. */
  total: number;
  /** What most of it is for, and how it becomes less. */
  most: Kind;
  remedy: string;
}

const remedies = {
  "the lengths of strings": "Use fewer different ones, or leave some out",
  patterns: "Shorten them, or use * or +",
  "lists with bounds": "Bound fewer of them",
  "integers with bounds": "Bound fewer of them, or several alike",
  properties: "Describe fewer of them",
  "names and values": "Shorten them, or use fewer",
} as const;
type Kind = keyof typeof remedies;

/** The cost of a schema in the form that is kept: types are known, and references are not followed. */
export function compileCost(schema: Schema): Cost {
  const parts = [...within(schema)];
  const sum = (of: (part: Described) => number) => parts.reduce((total, part) => total + of(part), 0);
  const lengths = new Map(
    parts.map(each => [`${each.minLength} ${each.maxLength}`, longest(each, "Length")]),
  );
  const patterns = new Set(parts.flatMap(({ pattern }) => (typeof pattern === "string" ? [pattern] : [])));
  const bounded = parts.flatMap(part => ("minimum" in part ? `${part.minimum}${part.maximum}` : []));
  const digits = [...new Set(bounded)].join("").length;
  const costs: Readonly<Record<Kind, number>> = {
    "the lengths of strings": [...lengths.values()].reduce((total, length) => total + length, 0),
    patterns: [...patterns].reduce((total, pattern) => total + patternLength(pattern), 0),
    // With as many as cost 1,000 it takes 7 s; with twice as many 36 s.
    "lists with bounds": sum(each => longest(each, "Items") / 10),
    // A digit is a rule, which cost by their square; so do values.
    "integers with bounds": bounded.length / 8 + digits ** 2 / 250_000,
    properties: parts.length ** 2 / 40_000 + sum(each => names(each).length ** 2 / 1500),
    "names and values": sum(
      each =>
        (names(each).join("").length + JSON.stringify(values(each)).length) / 2800 +
        values(each).length / 60 +
        values(each).length ** 2 / 90_000,
    ),
  };
  const [most] = (Object.keys(costs) as Kind[]).sort((a, b) => costs[b] - costs[a]);
  return { total: Object.values(costs).reduce((a, b) => a + b), most: most!, remedy: remedies[most!] };
}

const longest = (part: Described, of: "Length" | "Items"): number =>
  Math.min(COUNTED, ((part[`max${of}`] ?? part[`min${of}`]) as number | undefined) ?? 0);

const values = (part: Described) => (part.enum ?? []) as unknown[];
const names = ({ properties = {} }: Described): string[] => Object.keys(properties as object);

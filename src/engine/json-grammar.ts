/** A JSON schema as a grammar (EBNF): XGrammar's, but for what XGrammar 0.1.27 gets wrong. */
import { IntegerRules } from "./json-integers.ts";
import { within } from "./json-pointer.ts";
import type { XGrammar } from "./xgrammar.ts";

/** The grammar of a schema in the form that is kept, in which integers have both bounds or none. */
export async function schemaGrammar(schema: string, { Testings }: XGrammar): Promise<string> {
  const marked = JSON.parse(schema);
  const integers = new IntegerRules();
  const bodies: string[] = [];
  for (const part of within(marked)) {
    const bounds = part as { minimum?: number; maximum?: number };
    if (bounds.minimum === undefined) continue;
    bodies.push(integers.between(bounds.minimum, bounds.maximum!));
    // XGrammar's rule for one single number is right, and looks like no other: the number's digits one by one. So that
    // number can say which of our rules takes its place.
    bounds.minimum = bounds.maximum = bodies.length;
  }
  const guards = new Set<string>();
  const rules = (await Testings._jsonSchemaToEBNF(JSON.stringify(marked))).split("\n").map(rule => {
    const [, name, digits] = /^(\S+ ::= )\( \( ((?:"\d" )+)\) \)$/.exec(rule) ?? [];
    if (digits) return name + bodies[Number(digits.replace(/\D/g, "")) - 1]!;
    return BUILT.test(rule) ? rule : guarded(rule, guards);
  });
  return [...rules, ...integers.rules.values(), ...[...guards].map(name => `${name} ::= ""`)].join("\n");
}

/** Rules of values of any kind, and of objects and lists, where blanks stand. */
const BUILT = /^basic_|\[ \\n\\t\]\*|^$/;

const TOKEN = /\("(?:\\.|[^"\\])*"\)|"(?:\\.|[^"\\])*"|\[(?:\\.|[^\]\\])*\]|::=|[(|)]/g;

/**
 * The rule, with something empty before each alternative, of a name that no other has there. XGrammar merges
 * alternatives that begin alike, and allows more than they do (mlc-ai/xgrammar#618): ["aab", "a"] also takes "aabab".
 */
function guarded(rule: string, guards: Set<string>): string {
  const counts = [0];
  return rule.replace(TOKEN, token => {
    if (token === ")") counts.shift();
    if (token === "(") counts.unshift(0);
    if (token === "|") counts[0]!++;
    if (!["::=", "(", "|"].includes(token)) return token;
    const name = `guard_${counts[0]}`;
    guards.add(name);
    return `${token} ${name} `;
  });
}

/**
 * Rules (EBNF) of integers between bounds: XGrammar 0.1.27 gets many of them wrong (between 0 and 120 it allows 121 to
 * 129). Each decides by the next digit alone, since XGrammar merges alternatives that begin alike.
 */

/** As JSON writes them. Ranges share the rules of their last digits. */
export class IntegerRules {
  /** By name. */
  readonly rules = new Map<string, string>();

  /** Both included, and safe. */
  between(low: number, high: number): string {
    const natural = (least: number, most: number) => this.#ways(`${least}`, `${most}`, 1).join(" | ");
    return [
      ...(low < 0 ? [`"-" (${natural(Math.max(1, -high), -low)})`] : []),
      ...(low <= 0 && high >= 0 ? ['"0"'] : []),
      ...(high > 0 ? [natural(Math.max(1, low), high)] : []),
    ].join(" | ");
  }

  /** Digits from `low` to `high`, where fewer come before more: after each first one, those that may follow. */
  #ways(low: string, high: string, least = 0): string[] {
    const ways: { from: number; to: number; low: string; high: string }[] = [];
    for (let digit = least; digit <= 9; digit++) {
      const [next, last] = [after(digit, low, high), ways.at(-1)];
      if (next && next.low === last?.low && next.high === last.high) last.to = digit;
      else if (next) ways.push({ from: digit, to: digit, ...next });
    }
    const texts = ways.map(({ from, to, ...rest }) => `[${from}-${to}] ${this.#rest(rest.low, rest.high)}`);
    return low === "" ? ['""', ...texts] : texts;
  }

  #rest(low: string, high: string): string {
    if (high === "") return "";
    const name = `between_${low}_${high}`;
    if (this.rules.has(name)) return name;
    const ways = this.#ways(low, high);
    if (ways.length === 1) return ways[0]!;
    this.rules.set(name, `${name} ::= ${ways.join(" | ")}`);
    return name;
  }
}

/** What is left of the bounds after a first digit, null where none may follow: above the low one all, and so on. */
function after(digit: number, low: string, high: string): { low: string; high: string } | null {
  const [least, most] = [low.slice(1), high.slice(1)];
  const [toLow, toHigh] = [digit - Number(low[0] ?? -1), digit - Number(high[0] ?? -1)];
  const more = most.length - (toHigh > 0 ? 1 : 0);
  const fewest = low === "" ? 0 : least.length + (toLow < 0 ? 1 : 0);
  if (high === "" || fewest > more) return null;
  return { low: toLow === 0 ? least : "0".repeat(fewest), high: toHigh === 0 ? most : "9".repeat(more) };
}

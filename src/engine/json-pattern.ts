/** Regular expressions (ECMA-262) that the grammars of JSON strings keep as they are meant. */

/** Letters, digits, what is escaped, plain classes, groups, alternatives in groups, repetition. */
const PATTERN =
  /^\^?(?:[\w @#%&,:;=!<>~'`/-]|\\[dw]|\\[.+*?()[\]{}|^$/]|\[(?:[\w @#%&,:;=!<>~'`/.+*()-]|\\[dw.+*()/])+\]|\((?:\?:|(?!\?))|\)|\||[*+?]|\{\d+(?:,\d*)?\})*\$?$/;

export const canPromise = (pattern: string): boolean =>
  isRegExp(pattern) && PATTERN.test(pattern) && !hasOpenChoice(pattern) && !reachesEscaped(pattern);

export function isRegExp(pattern: string): boolean {
  try {
    return new RegExp(pattern, "u") !== null;
  } catch {
    return false;
  }
}

const parts = (pattern: string): string[] =>
  pattern.match(/\\.|\[(?:\\.|[^\]\\])*\]|\{[\d,]*\}|\(\?:|./g) ?? [];

/** Whether a range of a class covers what JSON escapes, such as `[ -~]`: the grammars would write it as it is. */
const reachesEscaped = (pattern: string): boolean =>
  parts(pattern).some(part => part.startsWith("[") && new RegExp(part, "u").test('"\\'));

/** Whether alternatives stand outside of all groups: an anchor would then belong to one of them only. */
function hasOpenChoice(pattern: string): boolean {
  let depth = 0;
  for (const part of parts(pattern)) {
    if (part.startsWith("(")) depth++;
    else if (part === ")") depth--;
    else if (part === "|" && depth === 0) return true;
  }
  return false;
}

/** Characters of the pattern when its repetitions are written out, each as often as it may be; for ever counts once. */
export function patternLength(pattern: string): number {
  /** Lengths of the open groups, and of what a repetition would repeat. */
  const open = [0];
  let last = 0;
  for (const part of parts(pattern)) {
    const [, least, most] = /^\{(\d+)(?:,(\d*))?\}$/.exec(part) ?? [];
    if (least !== undefined) {
      open[0]! += last * (Math.max(Number(least), Number(most || 0), 1) - 1);
    } else if (part.startsWith("(")) open.unshift(0);
    else if (part === ")") {
      last = open.shift()!;
      open[0]! += last;
    } else if (!"^$|*+?".includes(part)) {
      last = 1;
      open[0]! += 1;
    }
  }
  return open[0]!;
}

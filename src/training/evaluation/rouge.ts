/**
 * ROUGE-L (Lin 2004): F1 of the longest common subsequence of words with the best reference, 0 to 1, on words as
 * google-research's rouge_score takes them (lower case, letters and digits). Scripts that don't part words with spaces
 * count each character as one.
 */
export function rougeL(text: string, references: readonly string[]): number {
  const given = words(text);
  return Math.max(...references.map(reference => f1(given, words(reference))));
}

const unparted =
  /[\p{sc=Han}\p{sc=Hiragana}\p{sc=Katakana}\p{sc=Thai}\p{sc=Lao}\p{sc=Khmer}\p{sc=Myanmar}]\p{M}*/u;
const word = new RegExp(`${unparted.source}|(?:(?!${unparted.source})[\\p{L}\\p{M}\\p{N}])+`, "gu");

const words = (text: string): string[] => text.toLowerCase().match(word) ?? [];

function f1(a: readonly string[], b: readonly string[]): number {
  const common = longestCommon(a, b);
  return common === 0 ? 0 : (2 * common) / (a.length + b.length);
}

/** Length of the longest common subsequence, a row of the table at a time. */
function longestCommon(a: readonly string[], b: readonly string[]): number {
  let above = new Array<number>(b.length + 1).fill(0);
  for (const each of a) {
    const row = [0];
    for (const [j, other] of b.entries())
      row.push(each === other ? above[j]! + 1 : Math.max(above[j + 1]!, row[j]!));
    above = row;
  }
  return above.at(-1)!;
}

/** Short reviews that a word decides: "It is a dull film." */
const positive = [
  "funny",
  "warm",
  "charming",
  "clever",
  "moving",
  "lovely",
  "great",
  "brilliant",
  "sweet",
  "touching",
];
const negative = ["dull", "boring", "silly", "empty", "ugly", "loud", "awful", "weak", "tedious", "clumsy"];

export const reviewsOf = (nouns: readonly string[]) =>
  nouns.flatMap(noun =>
    [...positive, ...negative].map(word => ({
      input: `It is a ${word} ${noun}.`,
      label: positive.includes(word) ? "positive" : "negative",
    })),
  );

/** Texts of others, on a terminal: an input or a label may hold what would move its cursor or write over its lines. */

/** Without control characters, other than the ends of lines and tabs. */
export const plain = (text: string): string => text.replace(/(?![\n\t])\p{Cc}/gu, "");

/** On one line. */
export const oneLine = (text: string): string => plain(text.replace(/[\r\n\t]+/g, " "));

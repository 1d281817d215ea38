/** Examples and the lines that they stand at: as the registry keeps them, and what two of them share. */
import type { Example } from "../contract/dataset.ts";
import { ForewordError } from "../errors.ts";

/** Problems that an answer lists; the rest are counted. */
export const LISTED = 10;

export interface LineProblem {
  line: number;
  detail: string;
}

export interface ReadExamples {
  examples: Example[];
  /** The line that each began at, from 1. */
  lines: number[];
}

/** `bad_dataset`, naming the first lines and counting the others; `field` says of which examples they are. */
export function refused(
  problems: readonly LineProblem[],
  field?: string,
  count = problems.length,
): ForewordError {
  const [first, ...others] = problems.toSorted((a, b) => a.line - b.line);
  const more = count > 1 ? ` (and ${count - 1} more lines: see errors)` : "";
  const line = field === undefined ? `Line ${first!.line}` : `${field}: line ${first!.line}`;
  return new ForewordError("bad_dataset", `${line}: ${first!.detail.replace(/\.$/, "")}${more}.`, {
    ...(field !== undefined && { field }),
    line: first!.line,
    errors: [first!, ...others].slice(0, LISTED),
    count,
  });
}

/** The line of the first example with this label, which one has, as `ExampleWriter` wrote it: without reading the others. */
export function firstLineWith(label: string, bytes: Uint8Array): number {
  const rows = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const written = `"label":${JSON.stringify(label)}`;
  const labelAt = (at: number): string | undefined => {
    const end = rows.indexOf("\n", at);
    return JSON.parse(rows.toString("utf8", rows.lastIndexOf("\n", at) + 1, end < 0 ? undefined : end)).label;
  };
  let at = rows.indexOf(written);
  // A field of an input may have the same name.
  while (at >= 0 && labelAt(at) !== label) at = rows.indexOf(written, at + 1);
  let line = 1;
  for (let end = rows.indexOf("\n"); end >= 0 && end < at; end = rows.indexOf("\n", end + 1)) line++;
  return line;
}

/** NDJSON in which every example stands at the line that it began at, so that whoever reads it can name that line. */
export class ExampleWriter {
  readonly #parts: Buffer[] = [];
  #line = 1;

  add(example: Example, line: number): void {
    this.#parts.push(Buffer.from(`${"\n".repeat(line - this.#line)}${JSON.stringify(example)}\n`));
    this.#line = line + 1;
  }

  bytes(): Uint8Array {
    return Buffer.concat(this.#parts);
  }
}

export function writeExamples({ examples, lines }: ReadExamples): Uint8Array {
  const writer = new ExampleWriter();
  for (const [index, example] of examples.entries()) writer.add(example, lines[index]!);
  return writer.bytes();
}

/** What `writeExamples` wrote; line by line, since a text has a longest length. */
export function parseExamples(bytes: Uint8Array): ReadExamples {
  const buffer = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const read: ReadExamples = { examples: [], lines: [] };
  for (let at = 0, line = 1; at < buffer.length; line++) {
    const end = buffer.indexOf("\n", at);
    if (end > at) {
      read.examples.push(JSON.parse(buffer.toString("utf8", at, end)) as Example);
      read.lines.push(line);
    }
    at = end + 1;
  }
  return read;
}

/** What two examples share when they ask the same. A text fills a template's one field, whatever that is called. */
export function inputKey({ input }: Example): string {
  if (typeof input === "string") return input.trim();
  const fields = Object.entries(input).map(([name, value]): [string, unknown] => [
    name,
    typeof value === "string"
      ? value.trim()
      : value.map(({ role, content }) => ({ role, content: content.trim() })),
  ]);
  const only = fields.length === 1 ? fields[0]![1] : null;
  return typeof only === "string" ? only : JSON.stringify(fields.sort());
}

export const answerOf = (example: Example): string => ("label" in example ? example.label : example.output);

/** Keeps the first of the examples with the same input and answer: the others are no evidence of their own. */
export function distinct(examples: readonly Example[]): Example[] {
  const seen = new Set<string>();
  return examples.filter(example => {
    const key = JSON.stringify([inputKey(example), answerOf(example)]);
    return !seen.has(key) && seen.add(key);
  });
}

/** Lines of examples that say nothing new, and of those whose input came with another answer before. */
export class Repetitions {
  readonly duplicates: number[] = [];
  readonly conflicts: number[] = [];
  readonly #known = new Map<string, Set<string>>();

  add(example: Example, line: number): void {
    const [key, answer] = [inputKey(example), answerOf(example)];
    const answers = this.#known.get(key);
    if (answers === undefined) {
      this.#known.set(key, new Set([answer]));
      return;
    }
    if (answers.has(answer)) this.duplicates.push(line);
    else if ("label" in example) this.conflicts.push(line);
    answers.add(answer);
  }
}

/** Data sets as text: NDJSON and CSV, read as a stream and checked line by line. */
import { parse } from "csv-parse";
import { Value } from "typebox/value";
import { type DatasetFormat, Example } from "../contract/dataset.ts";
import type { Input } from "../contract/infer.ts";
import { ForewordError } from "../errors.ts";

/** Problems that an answer lists; the rest are counted. */
const LISTED = 10;
/** Of one line, so that a file without line breaks is refused before it fills the memory. */
const LINE_CHARACTERS = 4_000_000;
/** Each takes memory beside its text. */
const MOST_ROWS = 1_000_000;

export interface LineProblem {
  line: number;
  detail: string;
}

export interface ReadExamples {
  examples: Example[];
  /** The line that each began at, from 1. */
  lines: number[];
}

/** Throws `bad_dataset` with `line`, the first problems and how many there are. */
export async function readExamples(
  source: AsyncIterable<Uint8Array | string>,
  format: DatasetFormat,
): Promise<ReadExamples> {
  const read: ReadExamples = { examples: [], lines: [] };
  const problems: LineProblem[] = [];
  let count = 0;
  const wrongAt = (line: number, detail: string) => {
    count++;
    if (problems.length < LISTED) problems.push({ line, detail });
  };
  let kind: "label" | "output" | null = null;
  for await (const { line, row } of format === "csv" ? csvRows(source) : ndjsonRows(source)) {
    if (read.examples.length === MOST_ROWS)
      throw refused([
        { line, detail: `a data set has at most ${MOST_ROWS} examples; send fewer, or several of them` },
      ]);
    if (typeof row === "string") {
      wrongAt(line, row);
      continue;
    }
    const wrong = problemOf(row.value);
    const found = wrong === null ? (Object.hasOwn(row.value as object, "label") ? "label" : "output") : null;
    if (wrong !== null) wrongAt(line, wrong);
    else if (kind !== null && found !== kind)
      wrongAt(line, `it has ${found}, the lines before have ${kind}; give all of them the same`);
    else {
      kind = found;
      read.examples.push(row.value as Example);
      read.lines.push(line);
    }
  }
  if (count > 0) throw refused(problems, undefined, count);
  if (read.examples.length === 0)
    throw new ForewordError(
      "bad_dataset",
      'The data set is empty. Send one example a line, such as {"input": "…", "label": "…"}.',
      { line: 1 },
    );
  return read;
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

/** NDJSON in which every example stands at the line that it began at, so that whoever reads it can name that line. */
export function writeExamples({ examples, lines }: ReadExamples): Uint8Array {
  let line = 1;
  const parts = examples.map((example, index) => {
    const skipped = "\n".repeat(lines[index]! - line);
    line = lines[index]! + 1;
    return Buffer.from(`${skipped}${JSON.stringify(example)}\n`);
  });
  return Buffer.concat(parts);
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

/** What two examples share when they ask the same. */
export const inputKey = ({ input }: Example): string =>
  typeof input === "string" ? input.trim() : JSON.stringify(Object.entries(input).sort());

export const answerOf = (example: Example): string => ("label" in example ? example.label : example.output);

/** Examples that say nothing new, and those whose input came with another answer before. */
export function repetitions({ examples, lines }: ReadExamples): {
  duplicates: number[];
  conflicts: number[];
} {
  const known = new Map<string, Set<string>>();
  const duplicates: number[] = [];
  const conflicts: number[] = [];
  for (const [index, example] of examples.entries()) {
    const answers = known.get(inputKey(example)) ?? new Set();
    known.set(inputKey(example), answers);
    if (answers.has(answerOf(example))) duplicates.push(lines[index]!);
    else if (answers.size > 0 && "label" in example) conflicts.push(lines[index]!);
    answers.add(answerOf(example));
  }
  return { duplicates, conflicts };
}

type Row = { line: number; row: { value: unknown } | string };

async function* ndjsonRows(source: AsyncIterable<Uint8Array | string>): AsyncGenerator<Row> {
  for await (const [line, text] of linesOf(source)) {
    if (text.trim() === "") continue;
    try {
      yield { line, row: { value: JSON.parse(text) } };
    } catch (error) {
      yield { line, row: `it is not JSON (${(error as Error).message})` };
    }
  }
}

async function* linesOf(source: AsyncIterable<Uint8Array | string>): AsyncGenerator<[number, string]> {
  let rest = "";
  let line = 1;
  for await (const text of decoded(source, () => line)) {
    const parts = (rest + text).split("\n");
    rest = parts.pop()!;
    for (const part of parts) yield [line++, part];
    if (rest.length > LINE_CHARACTERS)
      throw refused([
        {
          line,
          detail: `it is longer than ${LINE_CHARACTERS} characters; end each example with a line break`,
        },
      ]);
  }
  if (rest !== "") yield [line, rest];
}

/** Text without a byte-order mark. Throws `bad_dataset` where bytes are no UTF-8. */
async function* decoded(
  source: AsyncIterable<Uint8Array | string>,
  line: () => number,
): AsyncGenerator<string> {
  const decoder = new TextDecoder("utf-8", { fatal: true });
  const decode = (bytes?: Uint8Array) => {
    try {
      return bytes ? decoder.decode(bytes, { stream: true }) : decoder.decode();
    } catch {
      throw refused([
        { line: line(), detail: "at or after it the bytes are no UTF-8; save the file as UTF-8" },
      ]);
    }
  };
  for await (const chunk of source) yield typeof chunk === "string" ? chunk : decode(chunk);
  yield decode();
}

/**
 * RFC 4180, with a header line. `label` or `output` is the answer; one other column is the input, whatever it is called;
 * several are the template's fields.
 */
async function* csvRows(source: AsyncIterable<Uint8Array | string>): AsyncGenerator<Row> {
  const parser = parse({
    bom: true,
    info: true,
    skip_empty_lines: true,
    relax_column_count: true,
    max_record_size: LINE_CHARACTERS,
  });
  const pumped = pump(source, parser);
  let head: string[] | null = null;
  let from = 1;
  let twice = 0;
  try {
    for await (const { record, info } of parser as AsyncIterable<{
      record: string[];
      info: { lines: number };
    }>) {
      // Empty lines stand between records. Of the breaks in a cell the parser counts every character.
      const text = record.join();
      const counted = text.match(/[\r\n]/g)?.length ?? 0;
      const line = info.lines - counted - twice;
      twice += counted - (text.match(/\r\n|\r|\n/g)?.length ?? 0);
      from = info.lines + 1;
      if (head === null) {
        head = checkHead(record.map(name => name.trim()));
        continue;
      }
      if (record.length !== head.length)
        yield { line, row: `it has ${record.length} columns, the header ${head.length}` };
      else yield { line, row: { value: exampleOf(head, record) } };
    }
    await pumped;
  } catch (error) {
    if (error instanceof ForewordError) throw error;
    throw refused([{ line: from, detail: `it is no CSV (${(error as Error).message})` }]);
  }
}

async function pump(
  source: AsyncIterable<Uint8Array | string>,
  parser: ReturnType<typeof parse>,
): Promise<void> {
  try {
    for await (const text of decoded(source, () => parser.info.lines))
      if (!parser.write(text)) await new Promise(resolve => parser.once("drain", resolve));
    parser.end();
  } catch (error) {
    parser.destroy(error as Error);
  }
}

const isAnswer = (name: string) => name === "label" || name === "output";

function checkHead(head: string[]): string[] {
  const answers = head.filter(isAnswer);
  const inputs = head.filter(name => !isAnswer(name));
  if (answers.length === 1 && inputs.length > 0 && new Set(head).size === head.length) return head;
  throw refused([
    {
      line: 1,
      detail: 'the header must name one column "label" or "output", and the input or the fields beside it',
    },
  ]);
}

function exampleOf(head: readonly string[], record: readonly string[]): unknown {
  const cells = head.map((name, column) => [name, record[column]!] as const);
  const fields = cells.filter(([name]) => !isAnswer(name));
  const input: Input = fields.length === 1 ? fields[0]![1] : Object.fromEntries(fields);
  return { input, ...Object.fromEntries(cells.filter(([name]) => isAnswer(name))) };
}

/** Why a row is no example, or null. */
function problemOf(value: unknown): string | null {
  if (value === null || typeof value !== "object" || Array.isArray(value))
    return 'it is no object such as {"input": "…", "label": "…"}';
  const { input, label, output, ...others } = value as Record<string, unknown>;
  if (input === undefined) return 'it has no "input"';
  if ((label === undefined) === (output === undefined)) return 'give it exactly one of "label" and "output"';
  const unknown = Object.keys(others)[0];
  if (unknown !== undefined) return `"${unknown}" is not known; fields of the template go into "input"`;
  if (typeof input === "string" && input.trim() === "") return '"input" is empty';
  if (label === "") return '"label" is empty';
  return Value.Check(Example, value)
    ? null
    : '"input" must be a text or an object of texts, the answer a text';
}

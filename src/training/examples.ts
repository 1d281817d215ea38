/** Data sets as text: NDJSON and CSV, read as a stream and checked line by line. */
import { pipeline } from "node:stream/promises";
import { CsvError, parse } from "csv-parse";
import { Value } from "typebox/value";
import { LONGEST_LABEL } from "../contract/common.ts";
import { type DatasetFormat, Example } from "../contract/dataset.ts";
import { Input } from "../contract/infer.ts";
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

/**
 * Tells `each` example as it is read, so that what is made of it takes its time between others' requests, and not all at
 * once behind the last. Throws `bad_dataset` with `line`, the first problems and how many there are.
 */
export async function readExamples(
  source: AsyncIterable<Uint8Array | string>,
  format: DatasetFormat,
  each: (example: Example, line: number) => void = () => {},
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
      each(row.value as Example, line);
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

/** Of examples with the same input and the same answer the first: the others are no evidence of their own. */
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

type Row = { line: number; row: { value: unknown } | string };

async function* ndjsonRows(source: AsyncIterable<Uint8Array | string>): AsyncGenerator<Row> {
  for await (const [line, text] of linesOf(source)) {
    if (text.trim() === "") continue;
    try {
      yield { line, row: { value: JSON.parse(text) } };
    } catch (error) {
      yield { line, row: `it is not JSON (${(error as Error).message})${line === 1 ? hint(text) : ""}` };
    }
  }
}

const ONE_A_LINE = "; send one object a line, without a list around them (jq -c '.[]' file.json)";

/** What a CSV's header is told that came as lines of JSON, and JSON that goes over several lines. */
function hint(text: string): string {
  if (/^\s*(\[|\{\s*$)/.test(text)) return ONE_A_LINE;
  return !text.trimStart().startsWith("{") &&
    text.split(",").some(name => /^\s*"?(label|output)"?\s*$/.test(name))
    ? "; it looks like the header of a CSV, which is sent as text/csv or with format csv"
    : "";
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
  // Where the last record ended, and the empty lines up to there; a broken one takes those that nobody has read with it.
  let [ended, empty, twice] = [0, 0, 0];
  // Of each record the line, taken down as it is parsed: an error throws away those that were not read yet.
  const begins: number[] = [];
  const parser = parse({
    bom: true,
    // Files that were joined have several. By default the first line's would be the only one, others a cell's text.
    record_delimiter: ["\r\n", "\n", "\r"],
    skip_empty_lines: true,
    relax_column_count: true,
    max_record_size: LINE_CHARACTERS,
    on_record: (record, { lines, empty_lines }) => {
      // Empty lines stand between records. Of the breaks in a cell the parser counts every character.
      const text = record.join();
      const counted = text.match(/[\r\n]/g)?.length ?? 0;
      begins.push(lines - counted - twice);
      twice += counted - (text.match(/\r\n|\r|\n/g)?.length ?? 0);
      [ended, empty] = [lines - twice, empty_lines];
      return record;
    },
  });
  const pumped = pipeline(
    decoded(source, () => parser.info.lines),
    parser,
  );
  // Whatever it throws, the parser throws too, and where it was left nobody asks.
  pumped.catch(() => {});
  let head: string[] | null = null;
  let read = 0;
  try {
    for await (const record of parser as AsyncIterable<string[]>) {
      const line = begins[read++]!;
      if (head === null) {
        head = checkHead(
          record.map(name => name.trim()),
          line,
        );
        continue;
      }
      if (record.length !== head.length)
        yield { line, row: `it has ${record.length} columns, the header ${head.length}` };
      else yield { line, row: { value: exampleOf(head, record) } };
    }
    await pumped;
  } catch (error) {
    if (!(error instanceof CsvError)) throw error;
    // Where the broken record begins: its quote may swallow lines, and what follows, before the parser finds it broken.
    const line = ended + 1 + (error.empty_lines as number) - empty;
    throw refused([{ line, detail: `it is no CSV: ${csvProblems[error.code] ?? error.message}` }]);
  }
}

const strayQuote =
  'a quote stands inside a cell; write it twice ("") and put the whole cell in quotes, or leave it out';
/** By the parser's code. */
const csvProblems: Readonly<Record<string, string>> = {
  INVALID_OPENING_QUOTE: strayQuote,
  CSV_INVALID_CLOSING_QUOTE: strayQuote,
  CSV_QUOTE_NOT_CLOSED: "a quote opens a cell and nothing closes it; close it, or leave the quote out",
  CSV_MAX_RECORD_SIZE: `it is longer than ${LINE_CHARACTERS} characters; send less in one example, and close every quote`,
};

const isAnswer = (name: string) => name === "label" || name === "output";

function checkHead(head: string[], line: number): string[] {
  const answers = head.filter(isAnswer);
  const inputs = head.filter(name => !isAnswer(name));
  const named = new Set(head).size === head.length && !head.includes("");
  if (answers.length === 1 && inputs.length > 0 && named) return head;
  const read = head.slice(0, LISTED).map(name => JSON.stringify(name.slice(0, 40)));
  throw refused([
    {
      line,
      detail: `the header must name one column "label" or "output", and the input or the fields beside it, each once, with commas between; its columns are read as ${read.join(", ")}${head.length > LISTED ? ", …" : ""}`,
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
    return `it is no object such as {"input": "…", "label": "…"}${Array.isArray(value) ? ONE_A_LINE : ""}`;
  const { input, label, output, ...others } = value as Record<string, unknown>;
  if (input === undefined) return 'it has no "input"';
  if ((label === undefined) === (output === undefined)) return 'give it exactly one of "label" and "output"';
  const unknown = Object.keys(others)[0];
  if (unknown !== undefined) return `"${unknown}" is not known; fields of the template go into "input"`;
  if (typeof input === "string" && input.trim() === "") return '"input" is empty';
  if (label === "") return '"label" is empty';
  if (Value.Check(Example, value)) return null;
  const answer = label === undefined ? "output" : "label";
  if (typeof (label ?? output) !== "string") return `"${answer}" must be a text; put it in quotes`;
  if (typeof label === "string" && label.length > LONGEST_LABEL)
    return `"label" has more than ${LONGEST_LABEL} characters; a text to write is called "output"`;
  const fields = typeof input === "object" && !Array.isArray(input) ? Object.entries(input ?? {}) : [];
  const wrong = fields.find(([name, field]) => !Value.Check(Input, { [name]: field }));
  if (!wrong) return '"input" must be a text or an object of texts';
  const [name, field] = wrong;
  const message = Array.isArray(field)
    ? field.findIndex(each => !Value.Check(Input, { [name]: [each] }))
    : -1;
  return message < 0
    ? `${JSON.stringify(name)} in "input" must be a text; put it in quotes`
    : `message ${message + 1} of ${JSON.stringify(name)} in "input" must be {"role": "system", "user", "assistant" or "tool", "content": a text}, with nothing else`;
}

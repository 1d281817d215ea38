/** Data sets as text: NDJSON and CSV, read as a stream and checked line by line. */
import { pipeline } from "node:stream/promises";
import { CsvError, parse } from "csv-parse";
import { Value } from "typebox/value";
import { LONGEST_LABEL } from "../contract/common.ts";
import { type DatasetFormat, Example } from "../contract/dataset.ts";
import { Input } from "../contract/infer.ts";
import { ForewordError } from "../errors.ts";
import { LISTED, type LineProblem, type ReadExamples, refused } from "./examples.ts";

/** A line has at most so many, so that a file without line breaks is refused before it fills the memory. */
const LINE_CHARACTERS = 4_000_000;
/** Examples of a data set: each takes memory beside its text. */
const MOST_ROWS = 1_000_000;

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
  // Where the last record ended, how many empty lines there were up to it, and how often a line break was counted twice.
  let [ended, empty, twice] = [0, 0, 0];
  // The line of each record, noted as it is parsed: an error discards the records that were not read yet.
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
  // The parser throws the same error; if its records are not read to the end, nobody needs it.
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

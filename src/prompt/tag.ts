import { ForewordError } from "../errors.ts";
import type { Field, Soft } from "./template.ts";

/** Virtual tokens of one slot, at most. */
const softLimit = 4096;

/** Letters and digits of any script, `_` and `-`. */
const fieldTag = /\{\{\s*([\p{L}_][\p{L}\p{M}\p{N}_-]*)\s*\}\}/uy;
const softTag =
  /\{\{\s*soft\s*\(\s*(?:(\d+)|"([^"\\]*(?:\\.[^"\\]*)*)"|'([^'\\]*(?:\\.[^'\\]*)*)')\s*\)\s*\}\}/suy;
const escapes: Record<string, string> = { n: "\n", t: "\t", r: "\r", "\\": "\\", '"': '"', "'": "'" };

/** The field or soft slot whose braces open at `open`, and the index after its closing braces. */
export function scanTag(source: string, open: number): { piece: Field | Soft; end: number } {
  const soft = match(softTag, source, open);
  if (soft) return { piece: softSlot(source, open, soft), end: softTag.lastIndex };
  const field = match(fieldTag, source, open);
  if (field && field[1] !== "soft") {
    return { piece: { kind: "field", name: field[1]!, lead: "" }, end: fieldTag.lastIndex };
  }
  throw bad(source, open, field ? "names a slot without its length" : describe(source, open));
}

function match(pattern: RegExp, source: string, at: number): RegExpExecArray | null {
  pattern.lastIndex = at;
  return pattern.exec(source);
}

function softSlot(source: string, open: number, [, digits, double, single]: RegExpExecArray): Soft {
  if (digits !== undefined) {
    const length = Number(digits);
    if (length < 1 || length > softLimit) {
      throw bad(source, open, `asks for ${digits} virtual tokens, where 1 to ${softLimit} are taken`);
    }
    return { kind: "soft", length, start: null };
  }
  const start = decodeEscapes(source, open, double ?? single ?? "");
  if (start === "") throw bad(source, open, "has an empty start text");
  if (/\p{Surrogate}/u.test(start)) throw bad(source, open, "has half of a surrogate pair in its start text");
  return { kind: "soft", length: null, start };
}

function decodeEscapes(source: string, open: number, text: string): string {
  return text.replace(/\\(u[0-9a-fA-F]{4}|.)/gsu, (whole, code: string) => {
    if (code.length === 5) return String.fromCharCode(Number.parseInt(code.slice(1), 16));
    const plain = escapes[code];
    if (plain === undefined) {
      throw bad(source, open, `has the escape ${whole}, where \\n \\t \\r \\\\ \\" \\' \\uXXXX are known`);
    }
    return plain;
  });
}

function describe(source: string, open: number): string {
  const close = source.indexOf("}}", open + 2);
  if (close < 0) return "opens braces that never close";
  const inside = source.slice(open, close + 2);
  return `reads ${inside.length > 60 ? `${inside.slice(0, 57)}...` : inside}, which is neither a field nor a soft slot`;
}

function bad(source: string, open: number, what: string): ForewordError {
  const lines = source.slice(0, open).split("\n");
  const line = lines.length;
  const column = [...lines.at(-1)!].length + 1;
  return new ForewordError(
    "bad_template",
    `At line ${line}, column ${column} the template ${what}. ` +
      'Write {{ name }} for a field, {{ soft(20) }} or {{ soft("start text") }} for a soft slot; ' +
      "leave out one brace where braces are meant as text.",
    { line, column },
  );
}

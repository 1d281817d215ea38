/** What went wrong, for people and for programs. */
import { ForewordError } from "../errors.ts";
import { oneLine, plain } from "./text.ts";

/** Errors of one problem that are told; the JSON has all that the server listed. */
const SHOWN = 20;

/** As it goes to standard error. A stack is of what we did not foresee. */
export function failure(error: unknown, json: boolean): string {
  if (!(error instanceof ForewordError)) return `${(error as Error).stack}\n`;
  if (json) return `${JSON.stringify(error.toProblem(), null, 2)}\n`;
  return plain(`${error.message}\n${listed(error.fields)}`);
}

/** A problem's `errors`, a line each, where it has several. */
export function listed({ errors, count }: Readonly<Record<string, unknown>>): string {
  if (!Array.isArray(errors) || errors.length < 2) return "";
  const shown = (errors as { line: number; detail: string }[]).slice(0, SHOWN);
  const more = Number(count ?? errors.length) - shown.length;
  const lines = shown.map(({ line, detail }) => `  line ${line}: ${oneLine(detail)}\n`);
  return lines.join("") + (more > 0 ? `  and ${more} more lines\n` : "");
}

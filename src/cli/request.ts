/** Calls to a running server. */
import { type Command, Option } from "commander";
import stringWidth from "string-width";
import { keyPattern } from "../admin-key.ts";
import { catalogue, ForewordError, type Problem, reasonOf } from "../errors.ts";
import { oneLine, plain } from "./text.ts";

export interface ServerFlags {
  server: string;
  key?: string;
  json?: boolean;
}

export const serverOptions = (command: Command): Command =>
  command
    .option(
      "--server <url>",
      "the running server (FOREWORD_SERVER)",
      process.env.FOREWORD_SERVER || "http://127.0.0.1:8080",
    )
    // No default, which help would show: of a variable it shows the name.
    .addOption(new Option("--key <key>", "the server's key").env("FOREWORD_ADMIN_KEY"))
    .option("--json", "print the reply as JSON");

/**
 * A path of the API: whatever was typed for an id, a version or a query's value stays one. Throws `validation` for what
 * a path can't hold as a name.
 */
export function route(texts: TemplateStringsArray, ...values: readonly (string | number)[]): string {
  for (const value of values)
    if (["", ".", ".."].includes(String(value)))
      throw new ForewordError(
        "validation",
        `"${value}" names nothing on a server. Give an id, such as sentiment, or a version, such as 3.`,
      );
  return String.raw(texts, ...values.map(value => encodeURIComponent(value)));
}

/** Behind the server's own path, where it has one. A host and a port may come without http://. */
function urlOf(server: string, path: string): string {
  const address = server.includes("://") ? server : `http://${server}`;
  const url = URL.canParse(address) ? new URL(address) : null;
  if (!url || !/^https?:$/.test(url.protocol) || url.username || url.password) {
    // Before an @ stands a password perhaps, which is not repeated.
    const given = server.includes("@") ? "what has a name or password in it" : `"${server}"`;
    throw new ForewordError(
      "validation",
      `--server: ${given} is no address. Give one such as http://127.0.0.1:8080 (FOREWORD_SERVER), and a key with --key (FOREWORD_ADMIN_KEY).`,
    );
  }
  return address.replace(/\/*([?#].*)?$/, "") + path;
}

/** The server's answer, where it is a good one. A problem becomes the error that the server described. */
export async function request(
  { server, key }: ServerFlags,
  method: string,
  path: string,
  { headers, ...rest }: RequestInit & { duplex?: "half" } = {},
): Promise<Response> {
  if (key && !keyPattern.test(key))
    throw new ForewordError(
      "validation",
      "The key of --key (FOREWORD_ADMIN_KEY) can't be one: keys are of ASCII characters, without blanks or line breaks at their ends.",
    );
  const response = await fetch(urlOf(server, path), {
    method,
    headers: { ...headers, ...(key && { authorization: `Bearer ${key}` }) },
    ...rest,
  }).catch(error => {
    if (rest.signal?.aborted) throw error;
    throw new ForewordError(
      "not_ready",
      `No server answers at ${server}: ${reasonOf(error)}. Start one with npm start, or name another with --server.`,
    );
  });
  if (response.ok) return response;
  const problem = await jsonOf<Problem>({ server }, response);
  throw Object.hasOwn(catalogue, problem.code)
    ? ForewordError.fromProblem(problem)
    : foreign(server, response);
}

/** A reply's JSON, an object as all of ours are. Throws `not_ready` where the connection breaks in it, `not_found`. */
export async function jsonOf<Reply>({ server }: ServerFlags, response: Response): Promise<Reply> {
  const text = await response.text().catch(cutShort(server));
  try {
    const reply = JSON.parse(text) as Reply | null;
    if (reply !== null && typeof reply === "object") return reply;
  } catch {
    // A page, as proxies answer with: no JSON at all.
  }
  throw foreign(server, response);
}

/** For `catch`, where a reply's body is read. */
export const cutShort = (server: string) => (error: unknown) => {
  throw new ForewordError(
    "not_ready",
    `The connection to ${server} broke before the reply was whole (${reasonOf(error)}). What was asked for may have been done all the same: look, and else ask again.`,
  );
};

const foreign = (server: string, { status }: Response): ForewordError =>
  new ForewordError(
    "not_found",
    `What answers at ${server} is no Foreword server (status ${status}). Name another with --server.`,
  );

/** The reply's JSON. */
export async function call<Reply>(
  flags: ServerFlags,
  method: string,
  path: string,
  body?: unknown,
): Promise<Reply> {
  const response = await request(
    flags,
    method,
    path,
    body === undefined ? {} : { headers: { "content-type": "application/json" }, body: JSON.stringify(body) },
  );
  return response.status === 204 ? (undefined as Reply) : jsonOf<Reply>(flags, response);
}

/** Every item of a list, page by page. */
export async function listAll<Item>(flags: ServerFlags, path: string): Promise<{ items: Item[] }> {
  const items: Item[] = [];
  let cursor: string | null = null;
  do {
    const query = new URLSearchParams({ limit: "1000", ...(cursor !== null && { cursor }) });
    const response = await request(flags, "GET", `${path}${path.includes("?") ? "&" : "?"}${query}`);
    const page = await jsonOf<{ items: Item[]; next_cursor: string | null }>(flags, response);
    if (!Array.isArray(page.items)) throw foreign(flags.server, response);
    items.push(...page.items);
    cursor = page.next_cursor;
  } while (cursor !== null);
  return { items };
}

/** A table with aligned columns, for people. A head without a word is left out. */
export function table(head: readonly string[], rows: readonly (readonly unknown[])[]): string {
  const shown = head.some(name => name !== "") ? [head, ...rows] : rows;
  const lines = shown.map(row => row.map(cell => oneLine(String(cell))));
  const widths = head.map((_, column) =>
    lines.reduce((widest, line) => Math.max(widest, stringWidth(line[column]!)), 0),
  );
  return lines
    .map(
      line =>
        `${line
          .map((cell, column) => cell + " ".repeat(widths[column]! - stringWidth(cell)))
          .join("  ")
          .trimEnd()}\n`,
    )
    .join("");
}

/** The reply: as it came for programs, harmless to a terminal for people. */
export const print = (json: boolean | undefined, reply: unknown, text: () => string): void => {
  process.stdout.write(json ? `${JSON.stringify(reply, null, 2)}\n` : plain(text()));
};

/** Calls to a running server. */
import type { Command } from "commander";
import { ForewordError, type Problem } from "../errors.ts";

export interface ServerFlags {
  server: string;
  key?: string;
  json?: boolean;
}

export const serverOptions = (command: Command): Command =>
  command
    .option("--server <url>", "the running server", process.env.FOREWORD_SERVER ?? "http://127.0.0.1:8080")
    .option("--key <key>", "the server's key", process.env.FOREWORD_ADMIN_KEY)
    .option("--json", "print the reply as JSON");

/** The reply's JSON. A problem becomes the error that the server described. */
export async function call<Reply>(
  { server, key }: ServerFlags,
  method: string,
  path: string,
  body?: unknown,
): Promise<Reply> {
  const response = await fetch(new URL(path, server), {
    method,
    headers: {
      ...(body !== undefined && { "content-type": "application/json" }),
      ...(key && { authorization: `Bearer ${key}` }),
    },
    ...(body !== undefined && { body: JSON.stringify(body) }),
  }).catch(error => {
    throw new ForewordError(
      "not_ready",
      `No server answers at ${server} (${(error as Error).message}). Start one with npm start, or name another with --server.`,
    );
  });
  if (response.status === 204) return undefined as Reply;
  const reply = await response.json();
  if (!response.ok) throw ForewordError.fromProblem(reply as Problem);
  return reply as Reply;
}

/** A table with aligned columns, for people. */
export function table(head: readonly string[], rows: readonly (readonly unknown[])[]): string {
  const lines = [head, ...rows].map(row => row.map(String));
  const widths = head.map((_, column) => Math.max(...lines.map(line => line[column]!.length)));
  return lines
    .map(
      line =>
        `${line
          .map((cell, column) => cell.padEnd(widths[column]!))
          .join("  ")
          .trimEnd()}\n`,
    )
    .join("");
}

export const print = (json: boolean | undefined, reply: unknown, text: () => string): void => {
  process.stdout.write(json ? `${JSON.stringify(reply, null, 2)}\n` : text());
};

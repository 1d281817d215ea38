/** The log: JSON lines, on stdout as a rule. Neither what callers send nor their keys is ever written. */
import { type DestinationStream, type Logger, pino } from "pino";
import { ForewordError } from "../errors.ts";

export type { Logger };

/** Names under which secrets and callers' text travel in our own records, at the top and one or two levels down. */
const secret = ["authorization", "cookie", "adminKey", "admin_key", "key"];
const text = [
  "input",
  "inputs",
  "body",
  "examples",
  "messages",
  "targets",
  "text",
  "template",
  "prompt_text",
  "output",
];
const names = [...secret, ...text];

const redact = {
  paths: names.flatMap(name => [name, `*.${name}`, `*.*.${name}`]),
  censor: "[not logged]",
};

/** A request is logged by method and path; query strings are left out, since callers put text there. */
const serializers = {
  req: (request: { method?: string; url?: string }) => ({
    method: request.method,
    url: request.url?.split("?")[0],
  }),
  res: (reply: { statusCode?: number }) => ({ status: reply.statusCode }),
  /** What we foresaw says what to do; where it was thrown helps nobody. */
  err: (error: Error) =>
    error instanceof ForewordError
      ? {
          type: error.name,
          code: error.code,
          message: error.message,
          ...(error.cause instanceof Error && { cause: pino.stdSerializers.err(error.cause) }),
        }
      : pino.stdSerializers.err(error),
};

/**
 * `level`: fatal, error, warn, info, debug, trace or silent. `destination` is for tests, and for a command whose result
 * is on stdout; without it, stdout.
 */
export function createLogger(level: string, destination?: DestinationStream): Logger {
  const options = {
    level,
    redact,
    serializers,
    base: { pid: process.pid },
    timestamp: pino.stdTimeFunctions.isoTime,
  };
  return destination ? pino(options, destination) : pino(options);
}

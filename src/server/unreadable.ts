/** What Node can't read as a request reaches no route and has no reply: the answer is written on the connection. */
import { maxHeaderSize, type ServerResponse, STATUS_CODES } from "node:http";
import type { Socket } from "node:net";
import { ForewordError } from "../errors.ts";

interface ParserError extends Error {
  code?: string;
}

const known: Readonly<Record<string, (error: ParserError) => ForewordError>> = {
  HPE_HEADER_OVERFLOW: () =>
    new ForewordError(
      "headers_too_large",
      `The path and the headers together have more than ${maxHeaderSize} bytes, the limit. Send less, an input in the body.`,
      { limit: maxHeaderSize },
    ),
  ERR_HTTP_REQUEST_TIMEOUT: () =>
    new ForewordError("request_timeout", "The request did not come whole in time. Send it again."),
};

/** Milliseconds for a caller to read the answer, and to end. */
const LINGER = 5000;

/** For Fastify's `clientErrorHandler`. */
export function refuseUnreadable(
  error: ParserError,
  socket: Socket & { _httpMessage?: ServerResponse | null },
): void {
  // Answered already: what still comes is not read, and a reset would take the answer away from who is still sending.
  if (socket.writableEnded && error.code !== "ECONNRESET") return;
  // Into a reply that has begun, as a stream has, no other may be written; Node itself looks at the same.
  if (error.code === "ECONNRESET" || !socket.writable || socket._httpMessage?.headersSent) {
    socket.destroy();
    return;
  }
  const describe = known[error.code ?? ""] ?? notHttp;
  const problem = describe(error).toProblem();
  const body = JSON.stringify(problem);
  socket.end(
    [
      `HTTP/1.1 ${problem.status} ${STATUS_CODES[problem.status]}`,
      "Content-Type: application/problem+json",
      `Content-Length: ${Buffer.byteLength(body)}`,
      "Connection: close",
      "",
      body,
    ].join("\r\n"),
  );
  setTimeout(() => socket.destroy(), LINGER).unref();
}

const notHttp = ({ message }: ParserError) =>
  new ForewordError(
    "malformed_request",
    `The request is not HTTP/1.1: ${message.replace(/^Parse Error: /, "")}.`,
  );

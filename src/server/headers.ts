/** If-Match, ETag, and who asks. */
import type { FastifyReply, FastifyRequest } from "fastify";
import { ForewordError } from "../errors.ts";
import type { Expected } from "../registry/registry.ts";

export function expectedRevision(request: FastifyRequest): Expected {
  const header = request.headers["if-match"];
  if (header === undefined || header === "*") return {};
  const revision = /^(?:W\/)?"(\d+)"$/.exec(header)?.[1];
  if (revision === undefined) {
    throw new ForewordError(
      "validation",
      `If-Match is ${header}; it takes the revision in quotation marks, as in "3".`,
      { field: "If-Match" },
    );
  }
  return { expected: Number(revision) };
}

export const etag = (reply: FastifyReply, revision: number): FastifyReply =>
  reply.header("ETag", `"${revision}"`);

/** The name under which a change is written into the history. */
export const actor = (request: FastifyRequest): string =>
  request.headers.authorization ? "admin" : "anonymous";

/** If-Match, ETag, Idempotency-Key, and who asks. */
import type { FastifyReply, FastifyRequest } from "fastify";
import { Type } from "typebox";
import type { Config } from "../config.ts";
import { ForewordError } from "../errors.ts";
import type { Expected } from "../registry/registry.ts";

/** Headers of a route that answers a repetition with the first answer. */
export const Repeatable = Type.Object({
  "idempotency-key": Type.Optional(
    Type.String({
      minLength: 1,
      description: "A text of the caller's own: what was done under it is not done again.",
    }),
  ),
});

const conditional = (revision: string) =>
  Type.Object({
    "if-match": Type.Optional(
      Type.String({ description: `${revision}, as in "3"; another one is a revision_conflict.` }),
    ),
  });

/** Headers of a route that changes what may have been changed meanwhile. */
export const Conditional = conditional("The revision that was read");

/** Headers of a route that depends on the active record alone, not on the rest of the task. */
export const ConditionalOnActive = conditional(
  "The revision of the task's active record (GET /tasks/:id/active)",
);

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

/** The name under which a change is written into the history: who comes this far has the key, where there is one. */
export const actor = ({ adminKey }: Pick<Config, "adminKey">): string =>
  adminKey === undefined ? "anonymous" : "admin";

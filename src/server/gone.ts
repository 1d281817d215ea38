import type { FastifyReply } from "fastify";

/** Calls `then` if the caller goes away before the reply is whole. */
export function whenGone({ raw }: FastifyReply, then: () => void): void {
  raw.once("close", () => {
    if (!raw.writableFinished) then();
  });
}

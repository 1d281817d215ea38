import type { FastifyReply } from "fastify";

/** Calls `then` if the caller goes away before the reply is whole; at once where that has happened. */
export function whenGone({ raw }: FastifyReply, then: () => void): void {
  const look = () => {
    if (!raw.writableFinished) then();
  };
  if (raw.destroyed) look();
  else raw.once("close", look);
}

import { createHash } from "node:crypto";
import type { FastifyReply, FastifyRequest } from "fastify";
import type { Registry, StoredReply } from "../registry/registry.ts";

/** Answers a repeated `Idempotency-Key` with the first answer; `answer` runs once. */
export async function idempotent(
  registry: Registry,
  request: FastifyRequest,
  reply: FastifyReply,
  answer: () => Promise<StoredReply>,
): Promise<never> {
  const key = request.headers["idempotency-key"];
  if (typeof key !== "string") return send(reply, await answer());
  const body = Buffer.isBuffer(request.body) ? request.body : JSON.stringify(request.body ?? null);
  const hash = createHash("sha256").update(`${request.method} ${request.url}\n`).update(body).digest("hex");
  const known = await registry.recall(key, hash);
  if (known) return send(reply, known);
  const made = await answer();
  await registry.remember(key, hash, made);
  return send(reply, made);
}

/** Fastify takes the reply itself as "sent"; `never` fits every route's declared answer. */
const send = (reply: FastifyReply, { status, headers, body }: StoredReply): never =>
  reply.code(status).headers(headers).send(body) as never;

import { createHash } from "node:crypto";
import type { FastifyReply, FastifyRequest } from "fastify";
import { ForewordError } from "../errors.ts";
import type { Registry, StoredReply } from "../registry/registry.ts";

/** Requests under way, by key: a repetition that overtakes the first answer waits for it. */
const underWay = new WeakMap<Registry, Map<string, { hash: string; made: Promise<StoredReply> }>>();

/** Answers a repeated `Idempotency-Key` with the first answer; `answer` runs once. A failure is not kept.
 * `content` is what makes two requests the same, where that is not the body. */
export async function idempotent(
  registry: Registry,
  request: FastifyRequest,
  reply: FastifyReply,
  answer: () => Promise<StoredReply>,
  content: unknown = request.body,
): Promise<never> {
  const key = request.headers["idempotency-key"];
  if (typeof key !== "string") return send(reply, await answer());
  const body = Buffer.isBuffer(content) ? content : JSON.stringify(content ?? null);
  const hash = createHash("sha256").update(`${request.method} ${request.url}\n`).update(body).digest("hex");
  const known = await registry.recall(key, hash);
  if (known) return send(reply, known);
  const running = underWay.get(registry) ?? new Map();
  underWay.set(registry, running);
  const other = running.get(key);
  if (other && other.hash !== hash)
    throw new ForewordError(
      "idempotency_conflict",
      "Idempotency-Key: another request with this key is being answered. Use a key of its own for each request.",
    );
  if (other) return send(reply, await other.made);
  const made = answer().then(async stored => {
    await registry.remember(key, hash, stored);
    return stored;
  });
  running.set(key, { hash, made });
  try {
    return send(reply, await made);
  } finally {
    running.delete(key);
  }
}

/** Fastify takes the reply itself as "sent"; `never` fits every route's declared answer. */
const send = (reply: FastifyReply, { status, headers, body }: StoredReply): never =>
  reply.code(status).headers(headers).send(body) as never;

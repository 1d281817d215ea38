import { createHash, randomUUID } from "node:crypto";
import { setTimeout as sleep } from "node:timers/promises";
import type { FastifyReply, FastifyRequest } from "fastify";
import { ForewordError } from "../errors.ts";
import type { Registry, StoredReply } from "../registry/registry.ts";
import { claimLife } from "../registry/store.ts";

/** How often a key is kept on while its request is answered, and how often others look for the answer. */
const RENEW_MS = claimLife / 3;
const LOOK_MS = 100;
/** How long they look. */
const PATIENCE_MS = 60_000;

/**
 * Answers a repeated `Idempotency-Key` with the first answer, whichever replica gave it; `answer` runs once, and a
 * repetition that overtakes it waits. A failure is not kept. `content` is what makes two requests the same, if that is
 * not the body. If the answer was lost, because a server died perhaps, `answer` runs again: what it writes has `commit`
 * for its name, and is written once. Throws `idempotency_conflict`, `deadline` (the first answer takes long).
 */
export async function idempotent(
  registry: Registry,
  request: FastifyRequest,
  reply: FastifyReply,
  answer: (commit?: string) => Promise<StoredReply>,
  content: unknown = request.body,
): Promise<never> {
  const key = request.headers["idempotency-key"];
  if (typeof key !== "string") return send(reply, await answer());
  const body = Buffer.isBuffer(content) ? content : written(content);
  const hash = sha256(`${request.method} ${request.url}\n`, body);
  const holder = randomUUID();
  const known = (await registry.recall(key, hash)) ?? (await claimed(registry, key, hash, holder));
  if (known) return send(reply, known);
  const renewing = setInterval(() => void registry.claim(key, hash, holder).catch(() => {}), RENEW_MS);
  try {
    const made = await answer(sha256(`${hash} ${key}`));
    // What is done is done: a reply that can't be kept is told all the same.
    await registry
      .remember(key, hash, made, holder)
      .catch(error => request.log.error({ err: error }, "a reply can't be kept for its Idempotency-Key"));
    return send(reply, made);
  } catch (error) {
    await registry.release(key, holder).catch(() => {});
    throw error;
  } finally {
    clearInterval(renewing);
  }
}

function sha256(...parts: (string | Buffer)[]): string {
  const hash = createHash("sha256");
  for (const part of parts) hash.update(part);
  return hash.digest("hex");
}

function written(content: unknown): string {
  try {
    return JSON.stringify(content ?? null);
  } catch (error) {
    // It was read as JSON, which takes more levels than can be written.
    throw new ForewordError(
      "validation",
      "body: it has too many levels. Nest less.",
      { field: "body" },
      { cause: error },
    );
  }
}

/** Null once the key is the holder's, or the reply that another has made meanwhile. */
async function claimed(
  registry: Registry,
  key: string,
  hash: string,
  holder: string,
): Promise<StoredReply | null> {
  for (const end = Date.now() + PATIENCE_MS; Date.now() < end; await sleep(LOOK_MS)) {
    const found = await registry.claim(key, hash, holder).catch(error => {
      // It may be ours, and only not confirmed.
      registry.release(key, holder).catch(() => {});
      throw error;
    });
    if (found === "claimed") return null;
    if (found !== "taken") return found;
  }
  throw new ForewordError(
    "deadline",
    "Idempotency-Key: the first request with this key is still being answered. Send it again later, with the same key.",
  );
}

/** Fastify takes the reply itself as "sent"; `never` fits every route's declared answer. */
const send = (reply: FastifyReply, { status, headers, body }: StoredReply): never =>
  reply.code(status).headers(headers).send(body) as never;

/** A server's events (SSE), through broken connections: a new one goes on behind the last event that was heard. */
import { setTimeout as sleep } from "node:timers/promises";
import { createParser, type EventSourceMessage } from "eventsource-parser";
import { ForewordError, type ProblemCode, reasonOf } from "../errors.ts";
import { request, type ServerFlags } from "./request.ts";

const FIRST_MS = 500;
const LONGEST_MS = 10_000;
/** Connections in a row that bring nothing: a minute and a half, in which a server starts again. */
const TRIES = 12;
/** The server shows every 15 s that it lives; a connection that is silent for longer is dead. */
const SILENCE_MS = 45_000;

const passing: readonly ProblemCode[] = ["not_ready", "draining", "registry_unavailable", "internal"];

export interface EventOptions {
  signal: AbortSignal;
  /** Told when a connection broke and another one is tried. */
  onBroken?: (reason: string) => void;
}

/** Never ends by itself: whoever knows the last event stops. Throws the server's problems, and the signal's reason. */
export async function* events(
  flags: ServerFlags,
  path: string,
  { signal, onBroken }: EventOptions,
): AsyncGenerator<EventSourceMessage> {
  let last: string | undefined;
  let wait = FIRST_MS;
  for (let tries = 0; ; tries++) {
    let reason = "the connection ended";
    try {
      for await (const message of connection(flags, path, last, signal)) {
        [tries, wait] = [0, FIRST_MS];
        last = message.id ?? last;
        yield message;
      }
    } catch (error) {
      if (signal.aborted) throw error;
      if (error instanceof ForewordError && (!passing.includes(error.code) || tries >= TRIES)) throw error;
      reason = reasonOf(error);
    }
    if (tries >= TRIES) throw new ForewordError("not_ready", `The server sends no events: ${reason}.`);
    onBroken?.(reason);
    await sleep(wait, undefined, { signal });
    wait = Math.min(2 * wait, LONGEST_MS);
  }
}

async function* connection(
  flags: ServerFlags,
  path: string,
  last: string | undefined,
  signal: AbortSignal,
): AsyncGenerator<EventSourceMessage> {
  const silence = new AbortController();
  const timer = setTimeout(() => silence.abort(new Error("the connection fell silent")), SILENCE_MS);
  try {
    const { body } = await request(flags, "GET", path, {
      headers: { accept: "text/event-stream", ...(last !== undefined && { "last-event-id": last }) },
      signal: AbortSignal.any([signal, silence.signal]),
    });
    const heard: EventSourceMessage[] = [];
    const parser = createParser({ onEvent: message => heard.push(message) });
    const decoder = new TextDecoder();
    for await (const chunk of body as unknown as AsyncIterable<Uint8Array>) {
      timer.refresh();
      parser.feed(decoder.decode(chunk, { stream: true }));
      yield* heard.splice(0);
    }
  } finally {
    clearTimeout(timer);
  }
}

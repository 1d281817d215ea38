/** Commands to Redis that answer in time or fail in words. */
import { setTimeout as sleep } from "node:timers/promises";
import { ForewordError } from "../errors.ts";
import { unavailable } from "./problems.ts";
import { createRedisClient, type RedisClient, type RedisLog } from "./redis-client.ts";
import type { RedisPlace } from "./redis-url.ts";

/** How long an answer may take, and one of many megabytes. */
const REPLY_MS = 4000;
export const LARGE_MS = 60_000;
/** How long a start waits for a Redis that is starting too. */
const OPEN_MS = 5000;
/** How long a write waits for its replicas. */
const WAIT_MS = 2000;

const REFUSED = "Redis refuses this user.";
const FULL = /^OOM|\bOOM command not allowed/;
/** What Redis refuses, and what is to be done about it. */
const refusals: readonly [RegExp, string][] = [
  [FULL, "Redis is full. Give it more memory (maxmemory), or delete something."],
  [
    /^(NOAUTH|WRONGPASS|NOPERM)/,
    `${REFUSED} See user and password in FOREWORD_REGISTRY, and the user's rights (ACL).`,
  ],
  [/^READONLY/, "This Redis is a replica, which takes no writes; a fail-over may be under way. Try again."],
  [
    /^NOREPLICAS/,
    "Redis takes no writes while its replicas are away (min-replicas-to-write). Bring them back.",
  ],
  [/^MISCONF/, "Redis can't save to its disk and takes no writes. Make room there; its log has the cause."],
  [/^(LOADING|MASTERDOWN|CLUSTERDOWN|TRYAGAIN|BUSY)/, "Redis is not ready yet. Try again in a moment."],
];

export function toProblem(error: unknown): ForewordError {
  if (error instanceof ForewordError) return error;
  // A cluster's client says that no node answered, and beside it what the last one said; a transaction says that it was
  // given up, and beside it which command was refused.
  const { lastNodeError, previousErrors } = error as { lastNodeError?: Error; previousErrors?: Error[] };
  const { message, name } = lastNodeError ?? previousErrors?.[0] ?? (error as Error);
  // The error itself holds the command with all that was sent, a password too: no log may have that.
  const cause = Object.assign(new Error(message), { name });
  const [, told] = refusals.find(([pattern]) => pattern.test(message)) ?? [];
  if (told !== undefined) return unavailable(told, cause);
  return name === "ReplyError"
    ? unavailable("Redis refused a command; the server's log has the cause.", cause)
    : unavailable("Redis can't be reached. See that it runs, and that FOREWORD_REGISTRY names it.", cause);
}

/** Whether a command was refused because Redis has no memory left. */
export const isFull = (error: unknown): boolean =>
  error instanceof ForewordError && error.cause instanceof Error && FULL.test(error.cause.message);

/** The connection broke before the answer came: what was asked for may have been done. */
const broke = ({ name, message }: Error): boolean =>
  name !== "ReplyError" && /abort|closed|ECONNRESET|EPIPE/i.test(message);

/** A slot is on another node now. ioredis follows by itself, except where WAIT, which it takes for a write, goes along. */
const moved = ({ message }: Error): boolean => /^(MOVED|ASK|TRYAGAIN|CLUSTERDOWN)/.test(message);
const FOLLOW_MS = [50, 100, 200, 400];

type Argument = string | number | Buffer;

/** As one array: tens of thousands of arguments to a function overflow the stack. */
const toEval = (script: string, keys: readonly string[], args: readonly Argument[]): Argument[] => [
  script,
  keys.length,
  ...keys,
  ...args,
];

export class RedisConnection {
  readonly client: RedisClient;
  readonly #wait: number;
  /** Whether the last command had an answer, a refusal too. */
  #answered = true;

  private constructor(client: RedisClient, wait: number) {
    this.client = client;
    this.#wait = wait;
  }

  /** Throws `registry_unavailable` where no Redis answers within five seconds. */
  static async open(place: RedisPlace, log: RedisLog): Promise<RedisConnection> {
    const client = createRedisClient(place, log, { connectionName: "foreword", maxRetriesPerRequest: 1 });
    const connection = new RedisConnection(client, place.wait);
    for (const end = Date.now() + OPEN_MS; ; await sleep(200)) {
      try {
        await connection.inTime(client.ping());
        await connection.#warnOfEviction(log);
        return connection;
      } catch (error) {
        if (!(error as Error).message.startsWith(REFUSED) && Date.now() < end) continue;
        client.disconnect();
        throw error;
      }
    }
  }

  /** A registry forgets nothing: what a full Redis throws away was acknowledged. One that doesn't say is believed. */
  async #warnOfEviction(log: RedisLog): Promise<void> {
    const nodes = "nodes" in this.client ? this.client.nodes("master") : [this.client];
    const told = await this.inTime(Promise.all(nodes.map(node => node.info("memory")))).catch(() => []);
    for (const memory of told) {
      const [, policy] = /^maxmemory_policy:(\S+)/m.exec(memory) ?? [];
      if (/^maxmemory:[1-9]/m.test(memory) && policy !== undefined && policy !== "noeviction")
        log.error(
          { policy },
          "Redis throws keys away when it is full: set its maxmemory-policy to noeviction",
        );
    }
  }

  /** As the last command found it; the feed asks every few seconds. */
  get reachable(): boolean {
    return this.#answered && this.client.status === "ready";
  }

  /** What ioredis throws becomes `registry_unavailable`, and so does silence. */
  async inTime<Result>(work: Promise<Result>, limit = REPLY_MS): Promise<Result> {
    let timer: NodeJS.Timeout | undefined;
    const late = new Promise<never>((_, reject) => {
      const detail = `Redis did not answer within ${limit / 1000} s. See its load and the network.`;
      timer = setTimeout(() => reject(unavailable(detail)), limit);
    });
    try {
      const result = await Promise.race([work, late]);
      this.#answered = true;
      return result;
    } catch (error) {
      this.#answered = (error as Error).name === "ReplyError";
      throw toProblem(error);
    } finally {
      clearTimeout(timer);
    }
  }

  /** Runs a script that may be run again where the connection breaks. */
  run(script: string, keys: string[], args: Argument[], limit?: number): Promise<unknown> {
    return this.inTime(
      this.#again(() => this.client.call("eval", toEval(script, keys, args))),
      limit,
    );
  }

  /** The same of a script that writes; resolves once the replicas that were asked for have it too. */
  async write(script: string, keys: string[], args: Argument[], limit = REPLY_MS): Promise<unknown> {
    if (this.#wait === 0) return this.run(script, keys, args, limit);
    // Behind the script on its own connection: WAIT is about what came before it there.
    const attempt = async () => {
      const pipeline = this.client.pipeline();
      pipeline.call("eval", toEval(script, keys, args));
      pipeline.wait(this.#wait, WAIT_MS);
      const [written, waited] = (await pipeline.exec())!;
      const failed = written![0] ?? waited![0];
      if (failed) throw failed;
      return [written![1], waited![1]] as const;
    };
    const [reply, replicas] = await this.inTime(this.#again(attempt), limit + WAIT_MS);
    if ((replicas as number) < this.#wait)
      throw unavailable(
        `The write is on the master, but only ${replicas} of ${this.#wait} replicas confirmed it within ${WAIT_MS / 1000} s, so a fail-over may lose it. See the replicas; wait=0 in FOREWORD_REGISTRY does without them.`,
      );
    return reply;
  }

  /** Once more where the connection broke, a few times while slots move. */
  async #again<Result>(attempt: () => Promise<Result>): Promise<Result> {
    for (let times = 0; ; times++) {
      try {
        return await attempt();
      } catch (error) {
        const pause = FOLLOW_MS[times];
        const follow = moved(error as Error) && pause !== undefined;
        if (!follow && !(broke(error as Error) && times === 0)) throw error;
        if (follow && "refreshSlotsCache" in this.client) {
          this.client.refreshSlotsCache();
          await sleep(pause);
        }
      }
    }
  }

  close(): void {
    this.client.disconnect();
  }
}

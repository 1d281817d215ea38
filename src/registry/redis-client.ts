/** Clients of one Redis, of a master that Sentinels watch, or of a cluster; each comes back by itself. */
import { Cluster, type ClusterOptions, Redis, type RedisOptions } from "ioredis";
import { parseRedisUrl, type RedisPlace } from "./redis-url.ts";

export type RedisClient = Redis | Cluster;
type Options = RedisOptions & { replyMapping: "legacy" };

/** Told of what no caller is told in full. */
export interface RedisLog {
  error(fields: object, text: string): void;
}

/**
 * Silence after which a connection that waits for an answer is taken for dead: a host that is gone closes none, and the
 * kernel sends again for a quarter of an hour.
 */
const SILENCE_MS = 30_000;
/** A cluster's client hears of a fail-over from the nodes that are left. */
const SLOTS_MS = 5000;

const retryStrategy = (times: number) => Math.min(50 * times, 500);

/** `more` is what one use needs. Errors are heard: each new reason is logged once until the connection is back. */
export function createRedisClient(
  place: RedisPlace,
  log: RedisLog,
  more: Omit<RedisOptions, "replyMapping">,
): RedisClient {
  const { kind, nodes, user, password, db, tls } = place;
  const options: Options = {
    ...(user !== null && { username: user }),
    ...(password !== null && { password }),
    ...(tls && { tls }),
    db,
    protocol: 2,
    replyMapping: "legacy",
    connectTimeout: 2000,
    socketTimeout: SILENCE_MS,
    // A former master that became a replica: connect again, to the new one.
    reconnectOnError: error => (error.message.startsWith("READONLY") ? 2 : false),
    ...more,
  };
  const client =
    kind === "cluster"
      ? new Cluster(nodes, inCluster(options, tls !== null))
      : new Redis({ ...options, retryStrategy, ...(kind === "sentinel" ? watched(place) : nodes[0]!) });
  let reason = "";
  client.on("error", (error: Error) => {
    if (error.message === reason) return;
    reason = error.message;
    log.error({ cause: reason }, "Redis can't be reached");
  });
  client.on("ready", () => {
    reason = "";
  });
  return client;
}

/** Clients for the queue of jobs: a blocking one waits as long as it takes, another fails in time. */
export function jobClients(url: string, log: RedisLog): (blocking: boolean) => RedisClient {
  const place = parseRedisUrl(url);
  return blocking =>
    createRedisClient(place, log, {
      connectionName: "foreword-jobs",
      maxRetriesPerRequest: blocking ? null : 1,
    });
}

const watched = ({ nodes, name, sentinelUser, sentinelPassword, tls }: RedisPlace) => ({
  sentinels: nodes,
  name: name!,
  ...(sentinelUser !== null && { sentinelUsername: sentinelUser }),
  ...(sentinelPassword !== null && { sentinelPassword }),
  ...(tls && { sentinelTLS: tls, enableTLSForSentinelMode: true }),
  failoverDetector: true,
});

const inCluster = (redisOptions: Options, tls: boolean): ClusterOptions & { redisOptions: Options } => ({
  redisOptions,
  clusterRetryStrategy: times => Math.min(100 * times, 1000),
  slotsRefreshTimeout: 2000,
  slotsRefreshInterval: SLOTS_MS,
  // Certificates are for names, which a look-up would replace by addresses.
  ...(tls && { dnsLookup: (address, callback) => callback(null, address) }),
});

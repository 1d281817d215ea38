/**
 * Where Redis is, in one line (`FOREWORD_REGISTRY`):
 *
 *     redis://[user:password@]host[:port][/db]              rediss://… over TLS
 *     redis-sentinel://[user:password@]host[:port],…/name[/db]
 *     redis-cluster://[user:password@]host[:port],…
 *
 * (`rediss-sentinel`, `rediss-cluster` over TLS). After a `?`: `wait`, the replicas that must confirm a write (1 under
 * Sentinel and Cluster, else 0); `ca`, a file of certificates to trust; `sentinel_user`, `sentinel_password`.
 */
import { readFileSync } from "node:fs";
import { ForewordError } from "../errors.ts";

export interface RedisNode {
  host: string;
  port: number;
}

export interface RedisPlace {
  kind: "single" | "sentinel" | "cluster";
  nodes: RedisNode[];
  /** The name of the master that the Sentinels watch. */
  name: string | null;
  db: number;
  user: string | null;
  password: string | null;
  sentinelUser: string | null;
  sentinelPassword: string | null;
  tls: { ca?: string } | null;
  /** Replicas that must have a write before it is acknowledged. */
  wait: number;
}

const shape = /^redis(s)?(?:-(sentinel|cluster))?:\/\/(?:(.*)@)?([^/?@]+)(?:\/([^?]*))?(?:\?(.*))?$/;
const forms =
  "redis://host:6379, redis-sentinel://host:26379,host:26379/name or redis-cluster://host:6379,host:6379";

/** Whatever is wrong, the text itself is not told: it may hold a password. */
function refuse(why: string): never {
  throw new ForewordError("validation", `Setting registry (FOREWORD_REGISTRY): ${why}. Give ${forms}.`, {
    setting: "registry",
  });
}

export function parseRedisUrl(url: string): RedisPlace {
  const match = shape.exec(url);
  if (!match) return refuse("it is no address of a Redis");
  const [, secure, form = "single", login, hosts, path = "", query = ""] = match;
  const kind = form as RedisPlace["kind"];
  const { wait, ca, sentinel_user, sentinel_password, ...others } = Object.fromEntries(
    new URLSearchParams(query),
  );
  const [unknown] = Object.keys(others);
  if (unknown !== undefined) refuse(`it has an option ${unknown}, which there is not`);
  if (ca !== undefined && !secure) refuse("ca is for TLS alone (rediss)");

  const [user, password] = splitLogin(login);
  const nodes = hosts!.split(",").map(host => node(host, kind === "sentinel" ? 26379 : 6379));
  const parts = path.split("/").filter(part => part !== "");
  const name = kind === "sentinel" ? (parts.shift() ?? refuse("the master's name is missing")) : null;
  if (kind === "single" && nodes.length > 1) refuse("several hosts need redis-sentinel or redis-cluster");
  if (kind === "cluster" && parts.length > 0) refuse("a cluster has no numbered databases");
  const [db = "0", ...rest] = parts;
  if (!/^\d{1,4}$/.test(db) || rest.length > 0) refuse("the database is no number");
  if (wait !== undefined && !/^\d$/.test(wait)) refuse("wait is no number from 0 to 9");

  return {
    kind,
    nodes,
    name,
    db: Number(db),
    user,
    password,
    sentinelUser: sentinel_user ?? null,
    sentinelPassword: sentinel_password ?? null,
    tls: secure ? { ...(ca !== undefined && { ca: readCertificates(ca) }) } : null,
    wait: wait === undefined ? (kind === "single" ? 0 : 1) : Number(wait),
  };
}

function splitLogin(login: string | undefined): [string | null, string | null] {
  if (login === undefined) return [null, null];
  const at = login.indexOf(":");
  const [user, password] = at < 0 ? [login, ""] : [login.slice(0, at), login.slice(at + 1)];
  try {
    return [decodeURIComponent(user) || null, decodeURIComponent(password) || null];
  } catch {
    return refuse("user or password has a % that no character's code follows; write a % itself as %25");
  }
}

function node(text: string, standard: number): RedisNode {
  const [, v6, name, port] = /^(?:\[([0-9a-f:.]+)\]|([^:[\]]+))(?::(\d{1,5}))?$/i.exec(text) ?? [];
  const host = v6 ?? name;
  const number = port === undefined ? standard : Number(port);
  if (host === undefined || number < 1 || number > 65_535)
    return refuse("a host is missing or has an odd port; ports are numbers from 1 to 65535");
  return { host, port: number };
}

function readCertificates(path: string): string {
  try {
    return readFileSync(path, "utf8");
  } catch (error) {
    return refuse(`ca can't be read (${(error as NodeJS.ErrnoException).code})`);
  }
}

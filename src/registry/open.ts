import { join } from "node:path";
import type { Config } from "../config.ts";
import { openLmdbRegistry } from "./lmdb.ts";
import type { RedisLog } from "./redis-client.ts";
import type { Registry } from "./registry.ts";

/** The registry that the settings ask for: in the data folder, or in Redis. Errors: `validation`, `registry_unavailable`. */
export async function openRegistry({ registry, data }: Config, log: RedisLog): Promise<Registry> {
  if (registry === "lmdb") return openLmdbRegistry(join(data, "registry"));
  const { openRedisRegistry } = await import("./redis.ts");
  return openRedisRegistry(registry, { log });
}

import { join } from "node:path";
import type { Config } from "../config.ts";
import { openLmdbRegistry } from "./lmdb.ts";
import { openRedisRegistry } from "./redis.ts";
import type { RedisLog } from "./redis-client.ts";
import type { Registry } from "./registry.ts";

/** The registry that the settings ask for: in the data folder, or in Redis. Errors: `validation`, `registry_unavailable`. */
export const openRegistry = ({ registry, data }: Config, log: RedisLog): Promise<Registry> =>
  registry === "lmdb" ? openLmdbRegistry(join(data, "registry")) : openRedisRegistry(registry, { log });

/** What a call of the registry costs with ten tasks and with ten thousand, on LMDB and on Redis. */
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { openLmdbRegistry } from "../../src/registry/lmdb.ts";
import { openRedisRegistry } from "../../src/registry/redis.ts";
import type { Registry } from "../../src/registry/registry.ts";
import { hard, newTask } from "../../test/registry/records.ts";
import { RedisServer } from "../../test/support/redis-server.ts";
import { load } from "../harness/product.ts";
import { type Check, check, type Report } from "../harness/report.ts";
import { interleave, quantile, ratios, type Summary, summarise } from "../harness/samples.ts";
import { taskName } from "./tasks.ts";

const MANY = 10_000;
const FEW = 10;
/** Calls of a sample. */
const CALLS = 100;
const PAGE = 50;

export async function operations(rounds: number): Promise<Pick<Report, "checks" | "figures">> {
  const checks: Check[] = [];
  const figures: Record<string, Summary> = {};
  for (const [store, open] of Object.entries(stores)) {
    const [few, many] = [await open(), await open()];
    try {
      await fill(few.registry, FEW);
      await fill(many.registry, MANY);
      const names = Object.keys(calls) as (keyof typeof calls)[];
      const measures = Object.fromEntries(
        names.flatMap(name => [
          [`${name}, ten tasks`, () => median(() => calls[name](few.registry, FEW))],
          [`${name}, ten thousand tasks`, () => median(() => calls[name](many.registry, MANY))],
        ]),
      );
      const samples = await interleave(rounds, measures);
      for (const [name, all] of Object.entries(samples)) figures[`${store}: ${name}, ms`] = summarise(all);
      for (const name of names.filter(name => name !== "a task")) {
        const times = ratios(samples[`${name}, ten thousand tasks`]!, samples[`${name}, ten tasks`]!);
        // A task alone is a few microseconds on LMDB. A page of fifty against the ten that there are: five times the work.
        const ceiling = name === "a page" ? PAGE / FEW : 1.5;
        checks.push(
          check(`${store}: ${name} with ten thousand tasks against ten`, "times", times, { ceiling }),
        );
      }
      console.log(`${store} is measured`);
    } finally {
      await few.remove();
      await many.remove();
    }
  }
  return { checks, figures };
}

/** Every write is on disk before it is acknowledged, on both. */
const stores = {
  LMDB: async () => {
    const folder = await mkdtemp(join(tmpdir(), "foreword-bench-"));
    const registry = await openLmdbRegistry(folder);
    return {
      registry,
      remove: async () => {
        await registry.close();
        await rm(folder, { recursive: true, force: true });
      },
    };
  },
  Redis: async () => {
    const redis = await RedisServer.start(["--appendonly", "yes", "--appendfsync", "always"]);
    const registry = await openRedisRegistry(redis.url);
    return {
      registry,
      remove: async () => {
        await registry.close();
        await redis.remove();
      },
    };
  },
};

const fill = (registry: Registry, count: number) =>
  load(count, 64, at => registry.createTask(newTask(taskName(at)), hard(), "bench"));

const anyOf = (count: number): string => taskName(Math.floor(Math.random() * count));

const calls = {
  "an activation": (registry: Registry, count: number) =>
    registry.setActive(anyOf(count), { prompt: 1 }, "bench"),
  "a task": (registry: Registry, count: number) => registry.getTask(anyOf(count)),
  "a page": (registry: Registry) => registry.listTasks({ limit: PAGE }),
};

/** Milliseconds. */
async function median(call: () => Promise<unknown>): Promise<number> {
  const times: number[] = [];
  for (let at = 0; at < CALLS; at++) {
    const began = performance.now();
    await call();
    times.push(performance.now() - began);
  }
  return quantile(times, 0.5);
}

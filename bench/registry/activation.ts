/**
 * How soon another replica knows what was activated: from the call in one process until another process, told by the
 * change feed, has read the new active record. One Redis on this machine, every write on disk before it is acknowledged.
 */
import { type ChildProcess, fork } from "node:child_process";
import { once } from "node:events";
import { fileURLToPath } from "node:url";
import { openRedisRegistry } from "../../src/registry/redis.ts";
import type { Registry } from "../../src/registry/registry.ts";
import { RedisServer } from "../../test/support/redis-server.ts";
import { check, type Report } from "../harness/report.ts";
import { quantile, summarise } from "../harness/samples.ts";

const replica = fileURLToPath(new URL("./replica.mjs", import.meta.url));
/** Of what operations on a replica's cache should not notice. */
const CEILING_MS = 100;

/** Activations of a round. */
const ACTIVATIONS = 200;

export async function activation(rounds: number): Promise<Pick<Report, "checks" | "figures">> {
  const redis = await RedisServer.start(["--appendonly", "yes", "--appendfsync", "always"]);
  const child = fork(replica, [redis.url]);
  try {
    await once(child, "message");
    const registry = await openRedisRegistry(redis.url);
    await registry.createTask({ id: "t", type: "generation", labels: null, description: "" }, null, "bench");
    const [p50, p99, calls]: number[][] = [[], [], []];
    for (let round = 0; round < rounds; round++) {
      const found = await activations(registry, child, ACTIVATIONS);
      p50!.push(quantile(found.heard, 0.5));
      p99!.push(quantile(found.heard, 0.99));
      calls!.push(quantile(found.called, 0.5));
      console.log(`round ${round + 1}: p50 ${p50!.at(-1)!.toFixed(2)} ms, p99 ${p99!.at(-1)!.toFixed(2)} ms`);
    }
    await registry.close();
    return {
      checks: [
        check("activation, until another process has it, p50", "ms", p50!, { ceiling: CEILING_MS }),
        check("activation, until another process has it, p99", "ms", p99!, { ceiling: CEILING_MS }),
      ],
      figures: {
        "until another process has it, p50, ms": summarise(p50!),
        "until another process has it, p99, ms": summarise(p99!),
        "until the call is acknowledged, p50, ms": summarise(calls!),
      },
    };
  } finally {
    child.disconnect();
    await redis.remove();
  }
}

/** Milliseconds of each activation, until it was acknowledged and until the other process had it. */
async function activations(registry: Registry, child: ChildProcess, count: number) {
  const [called, heard]: number[][] = [[], []];
  for (let at = 0; at < count; at++) {
    const told = once(child, "message");
    const began = process.hrtime.bigint();
    await registry.setActive("t", null, "bench");
    called!.push(Number(process.hrtime.bigint() - began) / 1e6);
    const [{ at: end }] = (await told) as [{ at: string }];
    heard!.push(Number(BigInt(end) - began) / 1e6);
  }
  return { called: called!, heard: heard! };
}

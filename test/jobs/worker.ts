/** A worker that saves a checkpoint of its first job and then hangs, until it is killed. */
import { openBullJobs } from "../../src/jobs/bullmq.ts";
import { openRedisRegistry } from "../../src/registry/redis.ts";
import { jobClients } from "../../src/registry/redis-client.ts";

const url = process.argv[2]!;
await openBullJobs({
  registry: await openRedisRegistry(url),
  connect: jobClients(url, console),
  log: console,
  lockMs: 1000,
  runner: async (_job, { checkpoint }) => {
    await checkpoint(Buffer.from("half way"));
    return new Promise(() => {});
  },
});

/** A task's jobs when it is deleted, over the routes alone and a Redis whose replica is away for a moment. */
import Fastify from "fastify";
import { expect, onTestFinished, test } from "vitest";
import { openBullJobs } from "../../src/jobs/bullmq.ts";
import { openRedisRegistry } from "../../src/registry/redis.ts";
import { jobClients } from "../../src/registry/redis-client.ts";
import type { Registry } from "../../src/registry/registry.ts";
import type { App, Dependencies } from "../../src/server/dependencies.ts";
import { installProblems } from "../../src/server/problems.ts";
import { tasks } from "../../src/server/tasks.ts";
import { hard, newTask } from "../registry/records.ts";
import { describeRedis } from "../support/redis.ts";
import { RedisServer } from "../support/redis-server.ts";

describeRedis("with Redis", () => {
  test("a second call cancels what a first one left, which deleted the task and could not confirm it", async () => {
    const redis = await RedisServer.start();
    // Confirms nothing, as long as nobody is there to confirm it.
    const unsure = await openRedisRegistry(`${redis.url}?wait=1`);
    const sure = await openRedisRegistry(redis.url);
    const log = { error: () => {} };
    const jobs = await openBullJobs({ registry: sure, connect: jobClients(redis.url, log), log });
    const app = Fastify();
    onTestFinished(async () => {
      await app.close();
      await jobs.close();
      await Promise.all([unsure.close(), sure.close()]);
      await redis.remove();
    });
    let calls = 0;
    const registry: Registry = {
      ...sure,
      deleteTask: (...given) => (calls++ === 0 ? unsure : sure).deleteTask(...given),
    };
    installProblems(app as unknown as App);
    await app.register(async scope =>
      tasks(scope as unknown as App, { registry, jobs } as unknown as Dependencies),
    );
    const { created_at: born } = await sure.createTask(newTask("t"), hard(), "ann");
    const wanted = { born, kind: "train" as const, request: {}, backbone: "f", blobs: [] };
    const ids = [];
    for (const task of ["t", "t", "u"]) ids.push((await jobs.submit({ ...wanted, task })).id);
    const remove = () => app.inject({ method: "DELETE", url: "/tasks/t" });
    expect((await remove()).json()).toMatchObject({ status: 503, code: "registry_unavailable" });
    expect((await remove()).json()).toMatchObject({ status: 404, code: "task_not_found" });
    const states = await Promise.all(ids.map(async id => (await sure.getJob(id)).state));
    expect(states).toEqual(["cancelled", "cancelled", "queued"]);
  });
});

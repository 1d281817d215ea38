/** A job's events as its record changes, over the routes alone. */
import { once } from "node:events";
import { mkdtemp, rm } from "node:fs/promises";
import { get, type ServerResponse } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import Fastify from "fastify";
import { FastifySSEPlugin } from "fastify-sse-v2";
import { afterEach, beforeEach, expect, onTestFinished, test } from "vitest";
import { openLmdbRegistry } from "../../src/registry/lmdb.ts";
import type { Registry } from "../../src/registry/registry.ts";
import type { App, Dependencies } from "../../src/server/dependencies.ts";
import { jobs } from "../../src/server/jobs.ts";
import { newJob } from "../registry/records.ts";

let folder: string;
let registry: Registry;
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), "foreword-events-"));
  registry = await openLmdbRegistry(folder);
  await registry.putJob(newJob("job-1"));
});
afterEach(async () => {
  await registry.close();
  await rm(folder, { recursive: true, force: true });
});

const end = async () => {
  await registry.updateJob("job-1", { state: "succeeded", ended_at: new Date().toISOString() });
};

/** The routes; `between` comes behind the first look at the record. */
async function serve(between: (response: ServerResponse) => Promise<void>, more: Partial<Registry> = {}) {
  let looks = 0;
  let response!: ServerResponse;
  const slow: Registry = {
    ...registry,
    ...more,
    getJob: async id => {
      const record = await registry.getJob(id);
      if (looks++ === 0) await between(response);
      return record;
    },
  };
  const app = Fastify();
  app.addHook("onRequest", async (_, reply) => {
    response = reply.raw;
  });
  await app.register(FastifySSEPlugin, { retryDelay: false });
  await app.register(async scope =>
    jobs(scope as unknown as App, { registry: slow } as unknown as Dependencies),
  );
  return app;
}

/** All that a watcher hears until the stream ends. */
async function heard(between: () => Promise<void>, headers: Record<string, string> = {}): Promise<string> {
  const app = await serve(between);
  try {
    return (await app.inject({ url: "/jobs/job-1/events", headers })).body;
  } finally {
    await app.close();
  }
}

test("a job that ends while its watcher comes is heard to end", async () => {
  expect(await heard(end)).toMatch(/event: state\ndata: .*"state":"succeeded"/);
}, 10_000);

test("who has heard of the end already hears a stream that ends", async () => {
  await end();
  const { revision } = await registry.getJob("job-1");
  expect(await heard(async () => {}, { "last-event-id": String(revision) })).not.toContain("event:");
}, 10_000);

test("a stream that begins while the server closes is ended", async () => {
  let closed: Promise<unknown> = Promise.resolve();
  const app = await serve(async () => {
    closed = app.close();
    await sleep(50);
  });
  const reply = await fetch(`${await app.listen()}/jobs/job-1/events`);
  expect(await reply.text()).toBe(":watching\n\n");
  await closed;
}, 10_000);

test("who leaves before the record is read leaves no watcher behind", async () => {
  const watchers = { came: 0, left: 0 };
  const watch: Registry["watch"] = listener => {
    watchers.came++;
    const unwatch = registry.watch(listener);
    return () => {
      watchers.left++;
      unwatch();
    };
  };
  const leave = async (response: ServerResponse) => {
    caller.destroy();
    await once(response, "close");
  };
  const app = await serve(leave, { watch });
  onTestFinished(() => app.close());
  const caller = get(`${await app.listen()}/jobs/job-1/events`);
  await expect(once(caller, "response")).rejects.toThrow("socket hang up");
  await expect.poll(() => watchers, { timeout: 3000 }).toEqual({ came: 1, left: 1 });
}, 10_000);

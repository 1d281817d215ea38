/**
 * docker/compose.yaml, started piece by piece without Docker: each service's own command, settings, files and health
 * check, as processes from dist/. Host names are mapped to this machine, ports and folders to free ones.
 */
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { Redis } from "ioredis";
import { afterAll, beforeAll, expect, test } from "vitest";
import { describeBackbone } from "../support/backbone.ts";
import { shareCompiled } from "../support/compiled.ts";
import { freePort } from "../support/port.ts";
import { describeRedis } from "../support/redis.ts";
import { reviewsOf } from "../support/reviews.ts";
import { Container } from "./container.ts";
import { composed, containers, image, type Json, manifests } from "./tools.ts";

const MINUTES = 60_000;
const password = "0123456789abcdef";
const key = "of the callers";
const services: Record<string, Json> = composed({
  REDIS_PASSWORD: password,
  FOREWORD_ADMIN_KEY: key,
}).services;

describeBackbone("compose.yaml, piece by piece", path =>
  describeRedis("on this machine", () => {
    const folders: string[] = [];
    const folder = async () => {
      folders.push(await mkdtemp(join(tmpdir(), "foreword-compose-")));
      return folders.at(-1)!;
    };
    let redis: Container;
    let redisPort: number;
    let server: Container;
    let worker: Container;
    let url: string;

    beforeAll(async () => {
      redisPort = await freePort();
      redis = await redisOf(services.redis, redisPort);
      redis.start();
      // What depends on it starts once it is healthy.
      await redis.until(async () => isHealthy(), 20);

      const data = await folder();
      await shareCompiled(data);
      const port = await freePort();
      url = `http://127.0.0.1:${port}`;
      const env = (service: Json, of: object) => ({
        ...image.env,
        ...service.environment,
        FOREWORD_REGISTRY: service.environment.FOREWORD_REGISTRY.replace(
          "redis:6379",
          `127.0.0.1:${redisPort}`,
        ),
        FOREWORD_DATA: data,
        FOREWORD_MIRROR: dirname(path),
        ...of,
      });
      const command = (service: Json) => [...image.entrypoint, ...service.command];
      server = new Container(command(services.server), env(services.server, { FOREWORD_PORT: `${port}` }));
      worker = new Container(command(services.worker), env(services.worker, {}));
      server.start();
      worker.start();
      await server.until(async () => (await fetch(`${url}/readyz`)).status === 200, 240);
    }, 6 * MINUTES);

    afterAll(async () => {
      for (const one of [worker, server, redis]) await one?.stop("SIGKILL");
      for (const one of folders) await rm(one, { recursive: true, force: true });
    });

    async function redisOf({ command, environment, volumes }: Json, port: number): Promise<Container> {
      const files = Object.fromEntries(volumes.map(({ source, target }: Json) => [target, source]));
      const mapped = command.map((word: string) => files[word] ?? word);
      const here = ["--port", `${port}`, "--bind", "127.0.0.1"];
      const env = { ...environment, TMPDIR: await folder() };
      return new Container([...mapped, ...here], env, await folder());
    }

    function isHealthy(): boolean {
      const [, check] = services.redis.healthcheck.test;
      return redis.run(["sh", "-c", check.replace("redis-cli", `redis-cli -p ${redisPort}`)]) === 0;
    }

    const headers = { authorization: `Bearer ${key}`, "content-type": "application/json" };
    async function call(method: string, route: string, body?: object): Promise<Json> {
      const { "content-type": type, ...bare } = headers;
      const given = body === undefined ? { headers: bare } : { headers, body: JSON.stringify(body) };
      const response = await fetch(url + route, { method, ...given });
      const answer = await response.text();
      expect(response.ok, answer).toBe(true);
      return response.headers.get("content-type")?.includes("json") ? JSON.parse(answer) : answer;
    }
    const post = (route: string, body: object) => call("POST", route, body);
    const get = (route: string) => call("GET", route);
    const jobs = async (state: string) =>
      Number(new RegExp(`^foreword_jobs\\{state="${state}"\\} (\\d+)`, "m").exec(await get("/metrics"))?.[1]);
    const infer = () => post("/tasks/mood/infer", { input: "It is a warm film." });

    test("Redis keeps what it is told, and lets its one user do no more than that", async () => {
      const as = async (login: object, ...command: [string, ...string[]]) => {
        const client = new Redis({ port: redisPort, maxRetriesPerRequest: 1, lazyConnect: true, ...login });
        client.on("error", () => {});
        return client
          .call(...command)
          .catch(error => error.message)
          .finally(() => client.disconnect());
      };
      const ours = { username: "foreword", password };
      expect(await as({}, "PING")).toMatch(/NOAUTH/);
      expect(await as({ ...ours, password: "another" }, "PING")).toMatch(/WRONGPASS|NOAUTH/);
      for (const command of [
        "FLUSHALL",
        "CONFIG GET dir",
        "KEYS *",
        "ACL LIST",
        "SET other 1",
        "GET fw:other",
      ])
        expect(await as(ours, ...(command.split(" ") as [string])), command).toMatch(/NOPERM/);
      expect(await as(ours, "INFO")).toMatch(
        /maxmemory:1073741824.*maxmemory_policy:noeviction.*aof_enabled:1/s,
      );
    });

    test("the server is healthy for the image's check and the probes, and says what workers are scaled by", async () => {
      const check = JSON.parse(image.healthcheck);
      expect(server.run(check)).toBe(0);
      expect(new Container([], { FOREWORD_PORT: "1" }).run(check)).toBe(1);
      const [{ startupProbe, readinessProbe, livenessProbe }] = containers.filter(
        ({ name }) => name === "server",
      );
      for (const { httpGet } of [startupProbe, readinessProbe, livenessProbe])
        expect((await fetch(url + httpGet.path)).status).toBe(200);
      expect((await fetch(`${url}/tasks`)).status).toBe(401);
      const { spec } = manifests.find(({ kind }) => kind === "ScaledObject");
      const [, metric] = /^max\((.+)\)$/.exec(spec.triggers[0].metadata.query)!;
      expect(await get("/metrics")).toContain(`\n${metric} 0\n`);
    });

    test(
      "a task is made, answers, and is trained by the worker; Redis's user may do all of it",
      async () => {
        const template = "Review: {{ input }}\nSentiment:";
        await post("/tasks", { id: "mood", labels: ["positive", "negative"], prompt: { template } });
        expect(await infer()).toMatchObject({ prompt: { version: 1, kind: "hard" } });
        const train = {
          examples: reviewsOf(["film"]),
          length: 8,
          batch_size: 4,
          seed: 1,
          checkpoint_seconds: 1,
        };
        const { id } = await post("/tasks/mood/train", { ...train, steps: 10, activate: true });
        await post("/tasks/mood/train", { ...train, steps: 10 });
        expect([await jobs("runnable"), await jobs("waiting")]).toEqual([1, 1]);
        await worker.until(async () => (await get(`/jobs/${id}`)).ended_at !== null, 180);
        expect(await get(`/jobs/${id}`)).toMatchObject({ state: "succeeded", result: { versions: [2] } });
        expect(await infer()).toMatchObject({ label: "positive", prompt: { version: 2, kind: "prefix" } });
        await worker.until(async () => (await jobs("runnable")) === 0, 180);
        await post("/backups", {});
        await call("DELETE", "/tasks/mood/prompts/1");
        for (const { output } of [server, worker]) expect(output).not.toMatch(/NOPERM|refuses this user/);
      },
      7 * MINUTES,
    );

    test("killed, Redis is back with all of it; meanwhile the server answers, and counts no jobs", async () => {
      const before = await infer();
      await redis.stop("SIGKILL");
      expect(await infer()).toEqual(before);
      expect(await get("/metrics")).not.toContain("foreword_jobs{");
      redis.start();
      await server.until(async () => (await get("/tasks/mood")).active.prompt === 2, 20);
      await server.until(async () => (await jobs("runnable")) === 0, 10);
    });

    test(
      "whoever is stopped ends within its grace; a job goes on from its checkpoint",
      async () => {
        const train = {
          examples: reviewsOf(["film"]),
          length: 8,
          batch_size: 4,
          checkpoint_seconds: 1,
          steps: 60,
        };
        const { id } = await post("/tasks/mood/train", train);
        await worker.until(async () => (await get(`/jobs/${id}`)).progress?.step > 2, 120);
        const grace = (name: string) => Number(services[name].stop_grace_period.replace("s", ""));
        const ended = await worker.stop();
        expect(ended.code).toBe(0);
        expect(ended.seconds).toBeLessThan(grace("worker"));
        expect((await get(`/jobs/${id}`)).ended_at).toBeNull();
        worker.start();
        await worker.until(async () => (await get(`/jobs/${id}`)).ended_at !== null, 180);
        expect(await get(`/jobs/${id}`)).toMatchObject({ state: "succeeded" });
        const stopped = await server.stop();
        expect(stopped.code).toBe(0);
        expect(stopped.seconds).toBeLessThan(grace("server"));
      },
      6 * MINUTES,
    );
  }),
);

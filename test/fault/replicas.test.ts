/** Two servers and two workers on one Redis, each a process with a data folder of its own, on the real backbone. */
import type { ChildProcess } from "node:child_process";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { describeBackbone } from "../support/backbone.ts";
import { type Ended, foreword } from "../support/command.ts";
import { shareCompiled } from "../support/compiled.ts";
import { describeRedis } from "../support/redis.ts";
import { RedisServer } from "../support/redis-server.ts";
import { reviewsOf } from "../support/reviews.ts";
import { ServerProcess } from "../support/server-process.ts";

const MINUTES = 60_000;
const examples = reviewsOf(["film"]);
const settings = { examples, length: 8, batch_size: 4, seed: 1, checkpoint_seconds: 1 };

describeBackbone("two servers and two workers on one Redis", path =>
  describeRedis("as processes", () => {
    let redis: RedisServer;
    let a: ServerProcess;
    let b: ServerProcess;
    const workers: { child: ChildProcess; ended: Promise<Ended>; data: string }[] = [];

    async function startWorker(env: Record<string, string>): Promise<void> {
      const data = await mkdtemp(join(tmpdir(), "foreword-worker-"));
      await shareCompiled(data);
      const mine = { ...env, FOREWORD_DATA: data, FOREWORD_MIRROR: dirname(path) };
      await new Promise<void>(resolve => {
        const started = (child: ChildProcess) => {
          workers.push({ child, ended, data });
          resolve();
        };
        const ended = foreword(["worker"], {
          env: mine,
          started: child => queueMicrotask(() => started(child)),
        });
      });
    }

    beforeAll(async () => {
      redis = await RedisServer.start(["--appendonly", "yes"]);
      const env = { FOREWORD_REGISTRY: redis.url, FOREWORD_THREADS: "1" };
      [a, b] = await Promise.all([ServerProcess.at(path), ServerProcess.at(path)]);
      // All at once, on an empty registry, as a first deployment does.
      await Promise.all([a.begin(env), b.begin(env), startWorker(env), startWorker(env)]);
      await Promise.all([a.ready(), b.ready()]);
    }, 6 * MINUTES);

    afterAll(async () => {
      for (const { child, data } of workers) {
        child.kill("SIGKILL");
        await rm(data, { recursive: true, force: true });
      }
      await Promise.all([a.remove(), b.remove()]);
      await redis.remove();
    });

    const task = (id: string) =>
      a.json(
        a.post("/tasks", {
          id,
          labels: ["positive", "negative"],
          prompt: { template: "Review: {{ input }}\nSentiment:" },
        }),
      );
    const infer = (server: ServerProcess, id: string) =>
      server.json(server.post(`/tasks/${id}/infer`, { input: "It is a warm film." }));
    const job = (server: ServerProcess, id: string) => server.json(server.get(`/jobs/${id}`));
    const runs = (server: ServerProcess, id: string) =>
      server.until(async () => ((await job(server, id)).progress?.step ?? 0) > 0, 120);

    test("register the bundled tasks once between them", async () => {
      const [ofA, ofB] = await Promise.all([a, b].map(server => server.json(server.get("/tasks"))));
      expect(ofA).toEqual(ofB);
      const counts = ofA.items.map(({ id, prompts }: { id: string; prompts: number }) => [id, prompts]);
      expect(Object.fromEntries(counts)).toMatchObject({ sentiment: 3, spam: 3 });
    });

    test(
      "train side by side what either was asked for, tell of it on either, and both serve it at once",
      async () => {
        await Promise.all([task("one"), task("two")]);
        expect(await infer(b, "one")).toMatchObject({ prompt: { version: 1, kind: "hard" } });
        const body = { ...settings, steps: 10, activate: true };
        const [one, two] = await Promise.all([
          a.json(a.post("/tasks/one/train", body)),
          b.json(b.post("/tasks/two/train", body)),
        ]);
        // On the replica that was not asked; the stream ends with the job.
        const [heard, other] = await Promise.all([
          b.get(`/jobs/${one.id}/events`).then(answer => answer.text()),
          a.get(`/jobs/${two.id}/events`).then(answer => answer.text()),
        ]);
        for (const events of [heard, other]) {
          expect(events).toMatch(/event: progress/);
          expect(events).toMatch(/event: state\ndata: .*"state":"succeeded"/);
        }
        for (const server of [a, b])
          for (const id of ["one", "two"])
            expect(await infer(server, id)).toMatchObject({ prompt: { version: 2, kind: "prefix" } });
        const times = await Promise.all([job(a, one.id), job(a, two.id)]);
        const [first, second] = times.map(({ started_at, ended_at }) => [started_at, ended_at]);
        expect(first![0] < second![1] && second![0] < first![1]).toBe(true);
        // Rolled back on one replica, rolled back on the other.
        const active = (prompt: number) => ({ method: "PUT", body: JSON.stringify({ prompt }) });
        const headers = { "content-type": "application/json" };
        await b.json(fetch(`${b.url}/tasks/one/active`, { ...active(1), headers }));
        expect(await infer(b, "one")).toMatchObject({ prompt: { version: 1 } });
        await a.until(async () => (await infer(a, "one")).prompt.version === 1, 2);
      },
      5 * MINUTES,
    );

    test("answer from memory while Redis dies under load and comes back, and refuse writes in words", async () => {
      const before = await Promise.all([infer(a, "two"), infer(b, "two")]);
      const replies: { label: string; prompt: object }[] = [];
      /** Four at once ask until it is ended. */
      const load = () => {
        let asking = true;
        const asked = [a, a, b, b].map(async server => {
          while (asking) replies.push(await infer(server, "two"));
        });
        return () => {
          asking = false;
          return Promise.all(asked);
        };
      };
      const readiness = async () => {
        const answer = await a.get("/readyz");
        return [answer.status, ((await answer.json()) as { status: string }).status];
      };
      expect(await readiness()).toEqual([200, "ready"]);
      const endFirst = load();
      await redis.stop();
      await a.until(async () => (await readiness())[1] === "degraded", 10);
      expect(await readiness()).toEqual([200, "degraded"]);
      const refused = await a.post("/tasks", { id: "three", type: "generation" });
      expect([refused.status, await refused.json()]).toMatchObject([503, { code: "registry_unavailable" }]);
      expect(refused.headers.get("retry-after")).toBe("1");
      const answered = replies.length;
      await a.until(async () => replies.length >= answered + 12, 30);
      // Alone, each says what it said, to the last digit.
      await endFirst();
      expect(await Promise.all([infer(a, "two"), infer(b, "two")])).toEqual(before);
      const endSecond = load();
      await redis.begin();
      await a.until(
        async () => (await a.post("/tasks", { id: "three", type: "generation" })).status === 201,
        10,
      );
      await a.until(async () => (await readiness())[1] === "ready", 10);
      await endSecond();
      const [{ label, prompt }] = before;
      for (const reply of replies) expect(reply).toMatchObject({ label, prompt });
      expect((await b.get("/tasks/three")).status).toBe(200);
    });

    test(
      "cancel on one what the other was asked for; a worker that stops hands its job to the other",
      async () => {
        const long = { ...settings, steps: 5000 };
        const { id } = await a.json(a.post("/tasks/one/train", long));
        await runs(b, id);
        const answer = await b.json(fetch(`${b.url}/jobs/${id}`, { method: "DELETE" }));
        expect(answer.state).toBe("cancelled");

        const next = await a.json(a.post("/tasks/one/train", { ...settings, steps: 40 }));
        await runs(a, next.id);
        // Whichever has it: the first to stop may be idle, the second takes what the first gave back.
        const [first] = workers;
        first!.child.kill("SIGTERM");
        expect((await first!.ended).code).toBe(0);
        await b.until(async () => (await job(b, next.id)).ended_at !== null, 180);
        expect(await job(b, next.id)).toMatchObject({ state: "succeeded", result: { versions: [3] } });
        const { items } = await b.json(b.get("/tasks/one/prompts"));
        expect(items).toHaveLength(3);
      },
      5 * MINUTES,
    );
  }),
);

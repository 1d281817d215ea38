import { readdir } from "node:fs/promises";
import { join } from "node:path";
import { afterAll, afterEach, beforeAll, expect, test } from "vitest";
import type { BackboneReport } from "../../src/contract/backbone.ts";
import type { InferReply } from "../../src/contract/infer.ts";
import { describeBackbone } from "../support/backbone.ts";
import { childrenOf } from "../support/children.ts";
import { emptyDisk, fillDisk, surviving } from "../support/full-disk.ts";
import { ServerProcess } from "../support/server-process.ts";

describeBackbone("a server in a process of its own", path => {
  let server: ServerProcess;

  beforeAll(async () => {
    server = await ServerProcess.at(path);
  });
  afterEach(() => server.stop("SIGKILL"));
  afterAll(() => server.remove());

  const infer = async (task: string, body: object) =>
    (await (await server.post(`/tasks/${task}/infer`, body)).json()) as InferReply;

  test("listens while it pulls and loads; then the bundled tasks answer, and a restart loses nothing", async () => {
    await server.begin();
    const loading = await server.get("/readyz");
    expect(loading.status).toBe(503);
    expect(await loading.json()).toMatchObject({ status: "loading" });
    const early = await server.post("/tasks", { id: "too-early", type: "generation" });
    expect(early.status).toBe(503);
    expect(early.headers.get("retry-after")).toBe("1");
    expect(await early.json()).toMatchObject({ code: "not_ready" });
    await server.ready();
    const secret = "The zebra quietly ate my umbrella.";
    const first = await infer("sentiment", { input: secret });
    expect(["positive", "negative"]).toContain((first as { label: string }).label);
    expect(
      (
        await server.post("/tasks", {
          id: "kept",
          labels: ["好", "坏"],
          prompt: { template: "评论：{{ input }}\n情感：" },
        })
      ).status,
    ).toBe(201);
    const backup = await (await server.post("/backups", { name: "first" })).json();
    expect(backup).toMatchObject({ folder: join(server.data, "backups", "first") });
    const taken = await server.post("/backups", { name: "first" });
    expect([taken.status, await taken.json()]).toMatchObject([422, { code: "validation", field: "name" }]);
    const race = await Promise.all([1, 2].map(() => server.post("/backups", { name: "race" })));
    expect(race.map(({ status }) => status).sort()).toEqual([201, 422]);
    expect((await fetch(`${server.url}/backups`, { method: "POST" })).status).toBe(201);
    expect(server.output).not.toContain("zebra");
    expect(await server.stop("SIGTERM")).toBe(0);

    await server.begin();
    await server.ready();
    const again = await infer("sentiment", { input: secret });
    expect({ ...again, usage: null }).toEqual({ ...first, usage: null });
    expect((await server.get("/tasks/kept")).status).toBe(200);
    expect(await infer("kept", { input: "这部电影很好看。", scores: "all" })).toMatchObject({
      task: "kept",
      scores: { 好: expect.any(Number), 坏: expect.any(Number) },
    });
  });

  test("a disk that is full: a backup answers 503, leaves nothing, and is made when there is room", async () => {
    await server.begin({}, surviving);
    await server.ready();
    // Its bundled prompts have more.
    await fillDisk(server.pid, 100_000);
    const refused = await server.post("/backups", { name: "late" });
    await emptyDisk(server.pid);
    expect([refused.status, await refused.json()]).toMatchObject([503, { code: "registry_unavailable" }]);
    expect(refused.headers.get("retry-after")).toBe("1");
    const left = await readdir(join(server.data, "backups"));
    expect(left.filter(name => /late/.test(name))).toEqual([]);
    const { folder } = await server.json(server.post("/backups", { name: "late" }));
    const [copy, original] = [folder, join(server.data, "registry")].map(place => join(place, "blobs"));
    expect((await readdir(copy!)).sort()).toEqual((await readdir(original!)).sort());
  });

  test("SIGTERM lets a running request finish", async () => {
    await server.begin();
    await server.ready();
    await server.post("/tasks", { id: "story", type: "generation", prompt: { template: "{{ input }}" } });
    const running = server.post("/tasks/story/infer", { input: "Once upon a time", max_tokens: 60 });
    await server.until(async () =>
      /foreword_running_rows [1-9]/.test(await (await server.get("/metrics")).text()),
    );
    const ended = server.stop("SIGTERM");
    const reply = await running;
    expect(reply.status).toBe(200);
    const { usage } = (await reply.json()) as InferReply;
    expect(usage.output_tokens).toBeGreaterThan(1);
    expect(await ended).toBe(0);
  });

  test("SIGTERM while the backbone is compiled ends the server, and its compiler, at once", async () => {
    await server.begin({ FOREWORD_DATA: join(server.data, "fresh") });
    await server.until(async () => {
      const { phase } = (await (await server.get("/readyz")).json()) as { phase: string };
      return /^(compiling|quantising)/.test(phase);
    });
    const compilers = await childrenOf(server.pid, "compile/process");
    expect(compilers).toHaveLength(1);
    const asked = Date.now();
    expect(await server.stop("SIGTERM")).toBe(0);
    // Compiling goes on for most of a minute.
    expect(Date.now() - asked).toBeLessThan(10_000);
    expect(() => process.kill(compilers[0]!, 0)).toThrow("ESRCH");
    expect(server.output).not.toContain("cannot");
  });

  test("TensorFlow.js serves too, and says so", async () => {
    await server.begin({ FOREWORD_RUNTIME: "tfjs" });
    await server.ready();
    const reply = await infer("sentiment", {
      input: "A warm, funny and beautifully acted film.",
      scores: "all",
    });
    expect(reply).toMatchObject({ label: "positive" });
    const refused = await server.post("/tasks/sentiment/train", {
      examples: ["fine", "dull"].map((input, i) => ({ input, label: ["positive", "negative"][i] })),
      precision: "int8",
    });
    expect([refused.status, await refused.json()]).toMatchObject([422, { field: "precision" }]);
    const { runtime } = (await (await server.get("/backbone")).json()) as BackboneReport;
    expect(runtime.name).toBe("tfjs");
    expect(["tensorflow", "wasm", "cpu"]).toContain(runtime.backend);
    expect(await (await server.get("/metrics")).text()).toMatch(
      /foreword_runtime_info\{runtime="tfjs",backend="\w+"/,
    );
  });
});

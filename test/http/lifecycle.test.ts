import { type ChildProcess, spawn } from "node:child_process";
import { mkdtemp, rm } from "node:fs/promises";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, afterEach, beforeAll, expect, test } from "vitest";
import type { BackboneReport } from "../../src/contract/backbone.ts";
import type { InferReply } from "../../src/contract/infer.ts";
import { describeBackbone } from "../support/backbone.ts";

const command = fileURLToPath(new URL("../../src/cli/main.ts", import.meta.url));

describeBackbone("a server in a process of its own", path => {
  let data: string;
  let server: ChildProcess | null = null;
  let output = "";
  let url = "";

  beforeAll(async () => {
    data = await mkdtemp(join(tmpdir(), "foreword-lifecycle-"));
  });
  afterEach(() => stop("SIGKILL"));
  afterAll(() => rm(data, { recursive: true, force: true }));

  async function freePort(): Promise<number> {
    const probe = createServer().listen(0, "127.0.0.1");
    await new Promise(resolve => probe.once("listening", resolve));
    const { port } = probe.address() as { port: number };
    await new Promise(resolve => probe.close(resolve));
    return port;
  }

  async function begin(env: Record<string, string> = {}): Promise<void> {
    const port = await freePort();
    url = `http://127.0.0.1:${port}`;
    output = "";
    const settings = {
      FOREWORD_DATA: data,
      FOREWORD_PORT: String(port),
      FOREWORD_MIRROR: dirname(path),
      ...env,
    };
    server = spawn(process.execPath, ["--import", "tsx", command, "serve"], {
      env: { ...process.env, ...settings },
    });
    server.stdout!.on("data", chunk => (output += chunk));
    server.stderr!.on("data", chunk => (output += chunk));
    await until(async () => (await get("/healthz")).status === 200);
  }

  async function stop(signal: NodeJS.Signals): Promise<number | null> {
    const running = server;
    if (!running || running.exitCode !== null) return running?.exitCode ?? null;
    const ended = new Promise<number | null>(resolve => running.once("exit", resolve));
    running.kill(signal);
    return ended;
  }

  async function until(condition: () => Promise<boolean>, seconds = 60): Promise<void> {
    for (
      const end = Date.now() + seconds * 1000;
      Date.now() < end;
      await new Promise(resolve => setTimeout(resolve, 50))
    ) {
      if (await condition().catch(() => false)) return;
    }
    throw new Error(`not within ${seconds} s; the server said:\n${output.slice(-2000)}`);
  }

  const get = (route: string) => fetch(url + route);
  const post = (route: string, body: object) =>
    fetch(url + route, {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify(body),
    });
  const infer = async (task: string, body: object) =>
    (await (await post(`/tasks/${task}/infer`, body)).json()) as InferReply;
  const ready = () => until(async () => (await get("/readyz")).status === 200);

  test("listens while it pulls and loads; then the bundled tasks answer, and a restart loses nothing", async () => {
    await begin();
    const loading = await get("/readyz");
    expect(loading.status).toBe(503);
    expect(await loading.json()).toMatchObject({ status: "loading" });
    const early = await post("/tasks", { id: "too-early", type: "generation" });
    expect(early.status).toBe(503);
    expect(early.headers.get("retry-after")).toBe("1");
    expect(await early.json()).toMatchObject({ code: "not_ready" });
    await ready();
    const secret = "The zebra quietly ate my umbrella.";
    const first = await infer("sentiment", { input: secret });
    expect(["positive", "negative"]).toContain((first as { label: string }).label);
    expect(
      (
        await post("/tasks", {
          id: "kept",
          labels: ["好", "坏"],
          prompt: { template: "评论：{{ input }}\n情感：" },
        })
      ).status,
    ).toBe(201);
    const backup = await (await post("/backups", { name: "first" })).json();
    expect(backup).toMatchObject({ folder: join(data, "backups", "first") });
    const taken = await post("/backups", { name: "first" });
    expect([taken.status, await taken.json()]).toMatchObject([422, { code: "validation", field: "name" }]);
    expect((await fetch(`${url}/backups`, { method: "POST" })).status).toBe(201);
    expect(output).not.toContain("zebra");
    expect(await stop("SIGTERM")).toBe(0);

    await begin();
    await ready();
    const again = await infer("sentiment", { input: secret });
    expect({ ...again, usage: null }).toEqual({ ...first, usage: null });
    expect((await get("/tasks/kept")).status).toBe(200);
    expect(await infer("kept", { input: "这部电影很好看。", scores: "all" })).toMatchObject({
      task: "kept",
      scores: { 好: expect.any(Number), 坏: expect.any(Number) },
    });
  });

  test("SIGTERM lets a running request finish", async () => {
    await begin();
    await ready();
    await post("/tasks", { id: "story", type: "generation", prompt: { template: "{{ input }}" } });
    const running = post("/tasks/story/infer", { input: "Once upon a time", max_tokens: 60 });
    await until(async () => /foreword_running_rows [1-9]/.test(await (await get("/metrics")).text()));
    const ended = stop("SIGTERM");
    const reply = await running;
    expect(reply.status).toBe(200);
    const { usage } = (await reply.json()) as InferReply;
    expect(usage.output_tokens).toBeGreaterThan(1);
    expect(await ended).toBe(0);
  });

  test("TensorFlow.js serves too, and says so", async () => {
    await begin({ FOREWORD_RUNTIME: "tfjs" });
    await ready();
    const reply = await infer("sentiment", {
      input: "A warm, funny and beautifully acted film.",
      scores: "all",
    });
    expect(reply).toMatchObject({ label: "positive" });
    const { runtime } = (await (await get("/backbone")).json()) as BackboneReport;
    expect(runtime.name).toBe("tfjs");
    expect(["tensorflow", "wasm", "cpu"]).toContain(runtime.backend);
    expect(await (await get("/metrics")).text()).toMatch(
      /foreword_runtime_info\{runtime="tfjs",backend="\w+"/,
    );
  });
});

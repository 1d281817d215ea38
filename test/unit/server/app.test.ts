/** What needs no backbone: the routes of the whole server, over stand-ins for all that is behind them. */
import { once } from "node:events";
import { type AddressInfo, connect, type Socket } from "node:net";
import { text } from "node:stream/consumers";
import { setTimeout as sleep } from "node:timers/promises";
import { expect, onTestFinished, test, vi } from "vitest";
import { loadConfig } from "../../../src/config.ts";
import type { EngineState } from "../../../src/engine/engine.ts";
import { ForewordError } from "../../../src/errors.ts";
import { createLogger } from "../../../src/observe/log.ts";
import { createMetrics } from "../../../src/observe/metrics.ts";
import { type AppOptions, createApp } from "../../../src/server/app.ts";
import { loadLibraryPatiently } from "../../../src/server/library.ts";
import { validatorCompiler } from "../../../src/server/validation.ts";

const loading: EngineState = { status: "loading", phase: "starting", progress: null };

async function serve({ library = () => loading, registry = {}, adminKey = "" } = {}) {
  const lines: string[] = [];
  const { app, drain } = await createApp({
    config: loadConfig({ env: {}, flags: adminKey ? { adminKey } : {} }),
    engine: { state: () => ({ status: "ready", phase: "ready", progress: 1 }) },
    registry: { watch: () => () => {}, reachable: () => true, ...registry },
    library,
    metrics: createMetrics(),
    log: createLogger("info", { write: line => void lines.push(line) }),
    version: "0",
  } as unknown as AppOptions);
  onTestFinished(() => app.close());
  await app.ready();
  return { app, drain, lines };
}

interface Operation {
  requestBody?: { content: Record<string, { schema: object; example?: unknown }> };
}

test("every body that the reference proposes is one that is taken", async () => {
  const { app } = await serve();
  const { paths } = app.swagger() as unknown as { paths: Record<string, Record<string, Operation>> };
  const bare: string[] = [];
  for (const [path, methods] of Object.entries(paths))
    for (const [method, { requestBody }] of Object.entries(methods)) {
      const json = requestBody?.content["application/json"];
      if (!json) continue;
      if (json.example === undefined) bare.push(path);
      else {
        const takes = validatorCompiler({ schema: json.schema, method, url: path, httpPart: "body" });
        expect(takes(json.example), `${method} ${path}`).toBe(true);
      }
    }
  expect(bare).toEqual([]);
});

test("/ leads to the reference, with a key too; a slash at the end is the same path", async () => {
  const list = vi.fn(async () => ({ items: [], next_cursor: null }));
  const { app } = await serve({ registry: { listTasks: list }, adminKey: "k".repeat(20) });
  const root = await app.inject("/");
  expect([root.statusCode, root.headers.location]).toEqual([302, "/docs"]);
  for (const path of ["/docs", "/docs/", "/openapi.json", "/healthz/"])
    expect((await app.inject(path)).statusCode, path).toBe(200);
  expect((await app.inject("/tasks/")).statusCode).toBe(401);
  const headers = { authorization: `Bearer ${"k".repeat(20)}` };
  expect((await app.inject({ url: "/tasks/", headers })).json()).toEqual({ items: [], next_cursor: null });
  for (const url of ["/tasks", "/tasks/"]) {
    const wrong = await app.inject({ method: "DELETE", url, headers });
    expect([wrong.statusCode, wrong.headers.allow]).toEqual([405, "GET, POST"]);
  }
});

test("a stream of events is not asked for by HEAD, which would have no end", async () => {
  const { app } = await serve();
  const reply = await app.inject({ method: "HEAD", url: "/jobs/job-1/events" });
  expect([reply.statusCode, reply.headers.allow]).toEqual([405, "GET"]);
});

test("what is no id is told what one is, in a path, a body and a list", async () => {
  const { app } = await serve();
  const rule =
    "is no id. Lower-case letters, digits, '.', '_' and '-'; at most 64; starts with a letter or digit.";
  for (const [method, url, payload, detail] of [
    ["GET", "/tasks/Mood", undefined, `params: id ${rule}`],
    ["POST", "/tasks", { id: "my mood" }, `body: id ${rule}`],
    ["POST", "/tasks/mood/train", { dataset: "A" }, `body: dataset ${rule}`],
    ["GET", "/prompts/similarity?tasks=mood,,spam", undefined, `tasks: "" ${rule}`],
    [
      "GET",
      `/prompts/similarity?tasks=${"a".repeat(3000)}`,
      undefined,
      `tasks: "${"a".repeat(3000)}" ${rule}`,
    ],
  ] as const) {
    const reply = await app.inject({ method, url, ...(payload && { payload }) });
    expect([reply.statusCode, reply.json().detail], url).toEqual([422, detail]);
  }
});

test("/readyz tells how far the bundled tasks are, and when they can't be had", async () => {
  let library: EngineState = { status: "loading", phase: "registering the bundled tasks", progress: null };
  const { app } = await serve({ library: () => library });
  const asked = async () => {
    const reply = await app.inject("/readyz");
    return [reply.statusCode, reply.json()];
  };
  expect(await asked()).toEqual([503, library]);
  library = { ...library, status: "failed", error: "No." };
  expect(await asked()).toEqual([503, library]);
  library = { status: "ready", phase: "ready", progress: 1 };
  expect(await asked()).toEqual([200, library]);
});

test("the bundled tasks wait for a registry and an engine that come back, and for nothing else", async () => {
  const { signal } = new AbortController();
  const marked = vi.fn(async () => true);
  const load = () => loadLibraryPatiently({ marked } as never, {} as never, createLogger("silent"), signal);
  for (const code of ["not_ready", "registry_unavailable"] as const)
    marked.mockRejectedValueOnce(new ForewordError(code, "Later."));
  await load();
  expect(marked).toHaveBeenCalledTimes(3);
  const ours = new ForewordError("internal", "x is undefined");
  for (const error of [new ForewordError("bad_template", "Never."), ours]) {
    marked.mockRejectedValueOnce(error);
    await expect(load()).rejects.toBe(error);
  }
});

test("a data set whose caller goes away is no failure of the server", async () => {
  const { app, lines } = await serve();
  const socket = await opened(app);
  socket.write(
    "POST /datasets HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/x-ndjson\r\nContent-Length: 999\r\n\r\n{",
  );
  await sleep(100);
  socket.destroy();
  await expect.poll(() => lines.join("")).toContain("the caller went away");
  await sleep(50);
  expect(lines.map(line => JSON.parse(line).level).filter(level => level >= 50)).toEqual([]);
});

type Served = Awaited<ReturnType<typeof serve>>["app"];

async function opened(app: Served): Promise<Socket> {
  if (!app.server.listening) await app.listen({ port: 0, host: "127.0.0.1" });
  const socket = connect((app.server.address() as AddressInfo).port, "127.0.0.1");
  await once(socket, "connect");
  return socket;
}

test("headers of any size are answered, though their sender reads nothing before all is sent", async () => {
  const { app } = await serve();
  const socket = (await opened(app)).pause();
  const headers = `X-Long: ${"x".repeat(2 ** 22)}`;
  await new Promise<void>((resolve, reject) => {
    socket.once("error", reject);
    socket.write(`GET /healthz HTTP/1.1\r\nHost: localhost\r\n${headers}\r\n\r\n`, () => resolve());
  });
  expect(await text(socket)).toMatch(/^HTTP\/1\.1 431 [\s\S]*"code":"headers_too_large"/);
});

test("nothing is written into a reply that has begun", async () => {
  const record = { id: "job-1", revision: 1, state: "running", log: [], progress: null, ended_at: null };
  const { app } = await serve({ registry: { getJob: async () => record } });
  const socket = await opened(app);
  socket.write("GET /jobs/job-1/events HTTP/1.1\r\nHost: localhost\r\n\r\n");
  let heard = "";
  socket.on("data", data => {
    heard += data;
  });
  await expect.poll(() => heard).toContain("event: state");
  socket.write("no HTTP at all\r\n\r\n");
  await once(socket, "close");
  expect(heard).not.toContain("malformed_request");
});

test("who is answered while the server drains is told that the connection ends, and so does a stream's", async () => {
  const record = { id: "job-1", revision: 1, state: "running", log: [], progress: null };
  let ended_at: string | null = null;
  let tell = (_: object) => {};
  const { app, drain } = await serve({
    registry: {
      getJob: async () => ({ ...record, ended_at }),
      watch: (listener: typeof tell) => {
        tell = listener;
        return () => {};
      },
    },
  });
  const socket = await opened(app);
  const heard = text(socket);
  socket.write("GET /jobs/job-1/events HTTP/1.1\r\nHost: localhost\r\n\r\n");
  await once(socket, "readable");
  expect((await app.inject("/healthz")).headers.connection).toBe("keep-alive");
  drain();
  for (const path of ["/healthz", "/nothing", "/tasks/Mood"])
    expect((await app.inject(path)).headers.connection, path).toBe("close");
  ended_at = "2026-01-01T00:00:00.000Z";
  tell({ kind: "job", id: "job-1" });
  expect(await heard).toMatch(/event: state[\s\S]*0\r\n\r\n$/);
});

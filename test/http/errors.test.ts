import { once } from "node:events";
import http, { maxHeaderSize } from "node:http";
import { connect, createServer } from "node:net";
import { text } from "node:stream/consumers";
import { setTimeout as sleep } from "node:timers/promises";
import { gzipSync } from "node:zlib";
import { afterAll, afterEach, beforeAll, expect, test, vi } from "vitest";
import { describeShallow } from "../support/shallow.ts";
import { expectProblem, startServer, type TestServer } from "./server.ts";

/** What a server says to a request for another name than its address. */
const asked = async (server: TestServer, method: string, host: string) => {
  const { port } = new URL(server.url);
  const headers = { host: `${host}:${port}`, origin: `http://${host}:${port}` };
  const request = http.request({ port, method, path: "/tasks/spam", headers }).end();
  const [response] = await once(request, "response");
  return { status: response.statusCode, body: JSON.parse(await text(response)) };
};

describeShallow("problems", path => {
  let server: TestServer;
  beforeAll(async () => {
    server = await startServer(path);
  });
  afterAll(() => server.close());

  test("bodies that are no JSON text: another type, another encoding, names that objects reserve", async () => {
    const json = { "content-type": "application/json" };
    for (const route of ["/tasks", "/tasks/spam/infer", "/tasks/spam/prompts"])
      expectProblem(
        await server.post(route, "{}", { "content-type": "text/plain" }),
        415,
        "unsupported_media_type",
      );
    expectProblem(
      await server.post("/datasets?id=d", gzipSync("{}"), { ...json, "content-encoding": "gzip" }),
      415,
      "unsupported_media_type",
      { detail: expect.stringContaining("gzip") },
    );
    const gbk = Buffer.concat([Buffer.from('{"input":"'), Buffer.from([0xc4, 0xe3]), Buffer.from('"}')]);
    expectProblem(await server.post("/tasks/spam/infer", gbk, json), 400, "malformed_json", {
      detail: expect.stringContaining("UTF-8"),
    });
    expectProblem(
      await server.post("/tasks/spam/infer", '{"input":{"__proto__":"x"}}', json),
      400,
      "malformed_json",
    );
    expect((await server.infer("spam", { input: "你" })).label).toBeTypeOf("string");
  });

  test("what is no request: headers without end, and no HTTP at all", async () => {
    const { port } = new URL(server.url);
    const told = async (sent: string) => {
      const socket = connect(Number(port), "127.0.0.1");
      socket.end(sent);
      const [head, body] = (await text(socket)).split("\r\n\r\n");
      return { head, problem: JSON.parse(body!) };
    };
    const long = await told(
      `GET /tasks HTTP/1.1\r\nHost: localhost\r\nX-Long: ${"x".repeat(20_000)}\r\n\r\n`,
    );
    expect(long.head).toMatch(/^HTTP\/1\.1 431 .*\r\nContent-Type: application\/problem\+json\r\n/);
    expect(long.problem).toMatchObject({ code: "headers_too_large", status: 431, limit: maxHeaderSize });
    const garbage = await told("what is this?\r\n\r\n");
    expect(garbage.head).toMatch(/^HTTP\/1\.1 400 /);
    expect(garbage.problem).toMatchObject({ code: "malformed_request", status: 400 });
    expect((await server.get("/healthz")).status).toBe(200);
  });

  test("paths that no route can have", async () => {
    expectProblem(await server.get("/tasks/%E0%A4%A"), 422, "validation", { field: "path" });
    expectProblem(await server.get(`/tasks/${"a".repeat(300)}`), 422, "validation", { field: "path" });
  });

  test("a data set that is refused is read to its end too", async () => {
    const { port } = new URL(server.url);
    const row = `"a cell","with ""quotes"" in it"\n`;
    const refused = {
      "text/csv": `text,sentiment\n${row.repeat(2 ** 19)}`,
      "text/csv; charset=utf-8": `input,label\na "b,c\n${row.repeat(2 ** 19)}`,
      "application/x-ndjson": `${"x".repeat(2 ** 24)}\n`,
      "multipart/form-data; boundary=b": `--b\r\n\r\n${"x".repeat(2 ** 24)}`,
    };
    for (const [type, body] of Object.entries(refused)) {
      const socket = connect(Number(port), "127.0.0.1").pause();
      const head = `POST /datasets?id=d HTTP/1.1\r\nHost: localhost\r\nContent-Type: ${type}\r\nContent-Length: ${body.length}\r\n\r\n`;
      // As a caller who reads nothing before all is sent.
      await new Promise<void>((resolve, reject) =>
        socket.once("error", reject).write(head + body, error => (error ? reject(error) : resolve())),
      );
      const [answer] = await once(socket.resume(), "data");
      socket.destroy();
      expect(String(answer), type).toMatch(
        type.startsWith("multipart") ? /^HTTP\/1.1 415 / : /^HTTP\/1.1 422 /,
      );
    }
    expect((await server.get("/datasets/d")).status).toBe(404);
  });

  test("parameters of a query that are not known", async () => {
    for (const route of ["/jobs?state=running", "/tasks?limit=5&page=2", "/prompts/similarity?tasl=x"])
      expectProblem(await server.get(route), 422, "validation", {
        detail: expect.stringMatching(
          /^querystring: \w+ is not known\. Leave it out(; known are [\w, ]+)?\.$/,
        ),
      });
    expect((await server.get("/healthz?at=3")).status).toBe(200);
  });

  test("what a browser asks for on behalf of another site's page", async () => {
    const sent = (headers: Record<string, string>) =>
      server.post("/datasets?id=theirs", '{"input":"a","label":"b"}', {
        "content-type": "text/plain",
        ...headers,
      });
    const { origin } = new URL(server.url);
    for (const headers of [
      { "sec-fetch-site": "cross-site" },
      { origin: "https://elsewhere.example" },
      { origin: "null" },
    ])
      expectProblem(await sent(headers), 403, "forbidden");
    expect((await server.get("/datasets/theirs")).status).toBe(404);
    expect((await server.get("/tasks", { origin: "https://elsewhere.example" })).status).toBe(200);
    for (const headers of [{}, { origin }, { "sec-fetch-site": "same-origin", origin }])
      expect((await sent(headers)).status).toBe(201);
  });

  test("what a page asks for whose site has its name point to this machine", async () => {
    for (const method of ["GET", "DELETE"])
      expect(await asked(server, method, "evil.example")).toMatchObject({
        status: 403,
        body: { code: "forbidden", detail: expect.stringContaining('"evil.example"') },
      });
    for (const host of ["localhost", "127.0.0.1", "[::1]", "foreword.localhost"])
      expect((await asked(server, "GET", host)).status).toBe(200);
  });

  test("a body of more levels than can be written again, under an Idempotency-Key", async () => {
    const deep = `{"json_schema":${'{"a":'.repeat(100_000)}1${"}".repeat(100_000)}}`;
    expectProblem(
      await server.post("/tasks/data-to-text/evaluate", deep, {
        "content-type": "application/json",
        "idempotency-key": "deep",
      }),
      422,
      "validation",
    );
  });

  test("of a value that may have several forms, the nearest one is named", async () => {
    const labels = (value: unknown) => server.post("/tasks", { id: "odd", labels: value });
    const ask = (input: unknown) => server.post("/tasks/data-to-text/infer", { input });
    const train = (body: object) => server.post("/tasks/sentiment/train", { dataset: "d", ...body });
    for (const [answer, detail] of [
      [await labels({ a: [], b: " x" }), "body: labels.a must NOT have fewer than 1 items."],
      [await labels("a"), "body: labels must be array or object."],
      [
        await labels({ a: " x", "": " y" }),
        'body: labels has the name "", which must NOT have fewer than 1 characters.',
      ],
      [
        await server.post("/tasks/sentiment/infer", { text: "x" }),
        /^body: text is not known\. Leave it out; known are input, inputs, /,
      ],
      [await ask(3), "body: input must be string or object."],
      [await train({ method: "lora" }), "body: method must be one of prefix, soft, distill."],
      [await train({ method: 0 }), "body: method must be one of prefix, soft, distill."],
      [await train({ init: {} }), "body: init.text or prompt is missing. Send it."],
      [await train({ init: { text: "a", x: 1 } }), "body: init.x is not known. Leave it out."],
      [await train({ activate: "maybe" }), "body: activate must be one of true, false, if_better."],
      [
        await train({ init: "nope" }),
        "body: init must be one of an object, examples, labels, vocabulary, random, donor.",
      ],
      [
        await ask({ messages: [{ role: "nobody", content: "x" }] }),
        /^body: input.messages.0.role must be one of/,
      ],
    ] as const)
      expectProblem(answer, 422, "validation", {
        detail: typeof detail === "string" ? detail : expect.stringMatching(detail),
      });
    const { results } = await server.infer("data-to-text", {
      inputs: [{ messages: [{ role: "nobody", content: "x" }] }, 3],
    });
    expect(results.map(({ error }: { error: { detail: string } }) => error.detail)).toEqual([
      expect.stringMatching(/^input: messages.0.role must be one of system, /),
      "input: send a text, or an object with a text for each field.",
    ]);
  });

  test("a port that is taken is an error, not a server that nobody reaches", async () => {
    const other = createServer().listen(0, "127.0.0.1");
    await new Promise(resolve => other.once("listening", resolve));
    const { port } = other.address() as { port: number };
    await expect(startServer(path, { port })).rejects.toMatchObject({
      code: "validation",
      message: expect.stringMatching(/another process listens there.*--port/),
    });
    other.close();
  });
});

describeShallow("problems of a server that takes a kilobyte", path => {
  let server: TestServer;
  beforeAll(async () => {
    server = await startServer(path, { bodyLimit: 1024 });
  });
  afterAll(() => server.close());

  test("the shape of a request: JSON, its size, its type, its route", async () => {
    const json = { "content-type": "application/json" };
    expectProblem(await server.post("/tasks", "{", json), 400, "malformed_json");
    expectProblem(await server.post("/tasks", "", json), 400, "malformed_json");
    expectProblem(await server.post("/tasks", { id: "x".repeat(2000) }), 413, "body_too_large", {
      limit: 1024,
    });
    expectProblem(
      await server.post("/tasks", "id=x", { "content-type": "application/x-www-form-urlencoded" }),
      415,
      "unsupported_media_type",
    );
    expectProblem(await server.get("/nothing"), 404, "not_found");
    const wrong = await server.call("DELETE", "/tasks");
    expectProblem(wrong, 405, "method_not_allowed");
    expect(wrong.headers.get("allow")).toContain("POST");
    expectProblem(await server.post("/tasks", []), 422, "validation");
    expect((await server.get("/healthz")).status).toBe(200);
  });

  test("a body that is far too large is read to its end, so that every client hears why it is refused", async () => {
    const body = { input: "x".repeat(2 ** 23) };
    for (let round = 0; round < 5; round++)
      expectProblem(await server.post("/tasks/spam/infer", body), 413, "body_too_large");
  });
});

describeShallow("problems of servers of their own", path => {
  let server: TestServer;
  afterEach(() => server.close());

  test("a body that stalls", async () => {
    const made = vi.spyOn(http, "createServer");
    server = await startServer(path);
    const listening = made.mock.results[0]!.value as http.Server;
    made.mockRestore();
    expect(listening.requestTimeout).toBe(600_000);
    Object.assign(listening, { headersTimeout: 500, requestTimeout: 500 });
    for (const route of ["/tasks", "/datasets?id=d"]) {
      const socket = connect(Number(new URL(server.url).port), "127.0.0.1");
      socket.write(
        `POST ${route} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 99\r\n\r\n{"input":`,
      );
      expect(await text(socket), route).toMatch(/^HTTP\/1.1 408 [\s\S]*"code":"request_timeout"/);
    }
    expect((await server.get("/datasets/d")).status).toBe(404);
    expect((await server.get("/healthz")).status).toBe(200);
  });

  test("a body that stalls holds no server open that closes", async () => {
    server = await startServer(path);
    const socket = connect(Number(new URL(server.url).port), "127.0.0.1");
    socket.write("POST /tasks HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99\r\n\r\n{");
    await server.get("/healthz");
    const timers = vi.spyOn(globalThis, "setTimeout");
    const closed = server.close();
    const [late] = timers.mock.calls.find(([, ms]) => ms === 25_000)!;
    timers.mockRestore();
    expect(await Promise.race([closed, sleep(1000, "open")])).toBe("open");
    late();
    await closed;
  });

  test("localhost is one server at one address", async () => {
    const made = vi.spyOn(http, "createServer");
    server = await startServer(path, { host: "localhost" });
    expect(made).toHaveBeenCalledTimes(1);
    made.mockRestore();
    expect(new URL(server.url).hostname).toBe("127.0.0.1");
    expect((await asked(server, "GET", "foreword.example")).status).toBe(403);
  });

  test("names are anybody's to choose where other machines may ask", async () => {
    server = await startServer(path, { host: "0.0.0.0" });
    expect((await asked(server, "GET", "foreword.example")).status).toBe(200);
  });

  test("too many at once, and too late", async () => {
    server = await startServer(path, { queue: 2 });
    await server.task({ id: "go", type: "generation", prompt: { template: "{{ input }}" } });
    const many = await Promise.all(
      Array.from({ length: 80 }, () =>
        server.post("/tasks/go/infer", { input: "Once upon a", max_tokens: 20 }),
      ),
    );
    const full = many.filter(({ status }) => status === 429);
    expect(full.length).toBeGreaterThan(0);
    expect(many.filter(({ status }) => status === 200).length).toBe(80 - full.length);
    expectProblem(full[0]!, 429, "queue_full", { limit: 2 });
    expect(Number(full[0]!.headers.get("retry-after"))).toBeGreaterThan(0);
    // One request alone never fills the queue.
    const inputs = Array.from({ length: 40 }, () => "Once upon a");
    const { results } = (await server.post("/tasks/go/infer", { inputs, max_tokens: 4 })).body;
    expect(results.map((each: { usage?: object }) => each.usage)).not.toContain(undefined);
    const late = await server.post("/tasks/go/infer", { input: "Once", max_tokens: 2000, timeout_ms: 200 });
    expectProblem(late, 504, "deadline");
    expect((await server.infer("go", { input: "Once", max_tokens: 2 })).usage.output_tokens).toBe(2);
  });

  test("a key, where one is configured; probes and the reference stay open", async () => {
    server = await startServer(path, { adminKey: "open sesame" });
    const bare = (route: string, headers: Record<string, string> = {}) =>
      fetch(server.url + route, { headers });
    for (const route of ["/healthz", "/readyz", "/openapi.json", "/docs"])
      expect((await bare(route)).status, route).toBe(200);
    for (const headers of [{}, { authorization: "Bearer wrong" }, { authorization: "open sesame" }]) {
      const refused = await bare("/tasks", headers);
      expectProblem(
        { status: refused.status, headers: refused.headers, body: await refused.json() },
        401,
        "unauthorized",
      );
    }
    for (const authorization of ["Bearer open sesame", "bearer  open sesame"])
      expect((await bare("/tasks", { authorization })).status).toBe(200);
    await server.task({ id: "mine", labels: ["a", "b"] });
    expect((await server.get("/tasks/mine/history")).body.items[0]).toMatchObject({ by: "admin" });
  });
});

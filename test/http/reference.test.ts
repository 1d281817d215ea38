import { Validator } from "@seriousme/openapi-schema-validator";
import { afterAll, beforeAll, expect, test } from "vitest";
import { learnsAsWell } from "../../src/gate/learned.ts";
import { describeBackbone } from "../support/backbone.ts";
import { expectProblem, promptFile, startServer, type TestServer } from "./server.ts";

describeBackbone("what the server says of itself", path => {
  let server: TestServer;
  beforeAll(async () => {
    server = await startServer(path);
  });
  afterAll(() => server.close());

  test("OpenAPI 3.1: valid, and every call of the contract is in it", async () => {
    const { body } = await server.get("/openapi.json");
    const { valid, errors } = await new Validator().validate(structuredClone(body));
    expect(valid, JSON.stringify(errors)).toBe(true);
    expect(body.openapi).toMatch(/^3\.1\./);
    const calls = Object.entries<object>(body.paths).flatMap(([route, methods]) =>
      Object.keys(methods).map(method => `${method.toUpperCase()} ${route}`),
    );
    expect(calls.sort()).toEqual(
      [
        "DELETE /datasets/{id}",
        "DELETE /jobs/{id}",
        "DELETE /tasks/{id}",
        "DELETE /tasks/{id}/prompts/{version}",
        "GET /backbone",
        "GET /datasets",
        "GET /datasets/{id}",
        "GET /healthz",
        "GET /jobs",
        "GET /jobs/{id}",
        "GET /jobs/{id}/events",
        "GET /metrics",
        "GET /prompts/similarity",
        "GET /readyz",
        "GET /tasks",
        "GET /tasks/{id}",
        "GET /tasks/{id}/active",
        "GET /tasks/{id}/history",
        "GET /tasks/{id}/prompts",
        "GET /tasks/{id}/prompts/{version}",
        "GET /tasks/{id}/prompts/{version}/nearest",
        "GET /tasks/{id}/shadow",
        "PATCH /tasks/{id}",
        "POST /backups",
        "POST /datasets",
        "POST /retrain",
        "POST /tasks",
        "POST /tasks/{id}/donors",
        "POST /tasks/{id}/evaluate",
        "POST /tasks/{id}/infer",
        "POST /tasks/{id}/prompts",
        "POST /tasks/{id}/prompts/{version}/attention",
        "POST /tasks/{id}/search",
        "POST /tasks/{id}/train",
        "PUT /tasks/{id}/active",
      ].sort(),
    );
  });

  test("OpenAPI tells what else a call takes and answers: headers, files, streams, problems", async () => {
    const { paths, components } = (await server.get("/openapi.json")).body;
    const call = (method: string, path: string) => paths[path][method];
    const headers = (method: string, path: string) =>
      (call(method, path).parameters ?? [])
        .filter((each: { in: string }) => each.in === "header")
        .map(({ name }: { name: string }) => name)
        .sort();
    const takes = (path: string) => Object.keys(call("post", path).requestBody.content);
    const gives = (method: string, path: string) => Object.keys(call(method, path).responses[200].content);
    for (const path of ["/tasks", "/datasets", "/retrain", "/tasks/{id}/train", "/tasks/{id}/evaluate"])
      expect(headers("post", path)).toEqual(["idempotency-key"]);
    expect(headers("post", "/tasks/{id}/prompts")).toEqual(["idempotency-key", "if-match"]);
    expect(headers("patch", "/tasks/{id}")).toEqual(["if-match"]);
    expect(headers("delete", "/tasks/{id}")).toEqual(["if-match"]);
    expect(headers("delete", "/tasks/{id}/prompts/{version}")).toEqual(["if-match"]);
    expect(headers("put", "/tasks/{id}/active")).toEqual(["if-match"]);
    expect(headers("get", "/jobs/{id}/events")).toEqual(["last-event-id"]);
    expect(takes("/tasks/{id}/prompts")).toEqual(["application/json", promptFile, "multipart/form-data"]);
    expect(call("post", "/backups").requestBody.required).toBe(false);
    expect(call("post", "/tasks").requestBody.required).toBe(true);
    expect(takes("/datasets")).toEqual(["application/x-ndjson", "text/csv"]);
    expect(gives("get", "/tasks/{id}/prompts/{version}")).toContain(promptFile);
    expect(gives("post", "/tasks/{id}/infer")).toEqual(["application/json", "text/event-stream"]);
    expect(gives("get", "/jobs/{id}/events")).toEqual(["text/event-stream"]);
    for (const [path, methods] of Object.entries<object>(paths))
      for (const [method, { responses }] of Object.entries(methods))
        expect(Object.keys(responses.default.content), `${method} ${path}`).toEqual([
          "application/problem+json",
        ]);
    expect(Object.keys(components.schemas)).toEqual(
      expect.arrayContaining(["EvaluationReport", "SearchReport", "DonorsReport"]),
    );
    expect(components).not.toHaveProperty("securitySchemes");
  });

  test("the reference is a page", async () => {
    const page = await fetch(`${server.url}/docs/`);
    expect(page.headers.get("content-type")).toContain("text/html");
    expect(await page.text()).toContain("swagger-ui");
  });

  test("the backbone's report agrees with its published sizes", async () => {
    expect(await server.backbone()).toMatchObject({
      architecture: "llama",
      layers: 30,
      hidden: 576,
      heads: 9,
      kv_heads: 3,
      head_dim: 64,
      vocabulary: 49152,
      parameters: 134_515_008,
      fingerprint: expect.stringMatching(/^[0-9a-f]{64}$/),
      runtime: { name: "onnx", backend: "cpu" },
    });
  });

  test("the backbone's precisions: what each loses against fp32, which answers and which trains", async () => {
    const { precision } = await server.backbone();
    const [fp32, int8] = precision.table;
    expect([fp32!.precision, int8!.precision]).toEqual(["fp32", "int8"]);
    expect(int8!.bytes).toBeLessThan(fp32!.bytes);
    expect(precision.active).toBe(int8!.serves ? "int8" : "fp32");
    expect(precision.training).toBe(int8!.trains && learnsAsWell(int8!.learned ?? null) ? "int8" : "fp32");
  });

  test("metrics count rows, tokens, steps and requests, and name no input", async () => {
    const before = {
      rows: await server.metric("foreword_infer_rows_total"),
      prefill: await server.metric('foreword_infer_tokens_total{phase="prefill"}'),
      steps: await server.metric("foreword_steps_total"),
      hits: await server.metric("foreword_prefix_cache_hits_total"),
      misses: await server.metric("foreword_prefix_cache_misses_total"),
    };
    const { usage } = await server.infer("spam", { input: "zebra umbrella" });
    expectProblem(await server.post("/tasks/spam/infer", { input: " " }), 422, "empty_input");
    expect(await server.metric("foreword_infer_rows_total")).toBe(before.rows + 1);
    const prefill = await server.metric('foreword_infer_tokens_total{phase="prefill"}');
    expect(prefill).toBeGreaterThanOrEqual((before.prefill || 0) + usage.input_tokens - usage.cached_tokens);
    expect(await server.metric("foreword_steps_total")).toBeGreaterThan(before.steps);
    // Beginnings that requests share are in the same cache, and are no prompts.
    for (const _ of [1, 2]) await server.infer("spam", { input: "zebra ".repeat(300) });
    const looked = async (which: "hits" | "misses") =>
      (await server.metric(`foreword_prefix_cache_${which}_total`)) - (before[which] || 0);
    expect((await looked("hits")) + (await looked("misses"))).toBe(4);
    const { body } = await server.get("/metrics");
    expect(body).not.toContain("zebra");
    expect(body).toContain('route="/tasks/:id/infer"');
    expect(body).toContain('foreword_runtime_info{runtime="onnx"');
  });
});

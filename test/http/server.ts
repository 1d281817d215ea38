/** The whole product in this process, on the real backbone and an empty registry; a file of tests shares one. */
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, vi } from "vitest";
import { type Config, loadConfig } from "../../src/config.ts";
import type { BackboneReport } from "../../src/contract/backbone.ts";
import type { InferReply } from "../../src/contract/infer.ts";
import { start } from "../../src/main.ts";
import { writePromptFile } from "../../src/prompt/file.ts";
import { shareCompiled } from "../support/compiled.ts";

export const promptFile = "application/vnd.foreword.prompt+safetensors";

/** What a test looks at in a reply; its own expectations say the rest. */
export interface Answer<Body> {
  status: number;
  headers: Headers;
  body: Body;
}
// biome-ignore lint/suspicious/noExplicitAny: a reply's shape is what the tests are about
type Json = any;

export async function startServer(backbone: string, settings: Partial<Config> = {}) {
  const data = await mkdtemp(join(tmpdir(), "foreword-http-"));
  await shareCompiled(data);
  const flags = { backbone, data, port: 0, logLevel: "silent", ...settings };
  const running = await start(loadConfig({ env: {}, flags }));
  await running.ready;
  const url = running.address;
  const key = settings.adminKey;

  async function call<Body = Json>(
    method: string,
    route: string,
    body?: unknown,
    headers: Record<string, string> = {},
  ): Promise<Answer<Body>> {
    const raw = body instanceof Uint8Array || body instanceof FormData || typeof body === "string";
    const response = await fetch(url + route, {
      method,
      headers: {
        ...(key !== undefined && { authorization: `Bearer ${key}` }),
        ...(body !== undefined && !raw && { "content-type": "application/json" }),
        ...headers,
      },
      ...(body !== undefined && { body: raw ? body : JSON.stringify(body) }),
    });
    const text = await response.text();
    const json = response.headers.get("content-type")?.includes("json");
    return { status: response.status, headers: response.headers, body: json ? JSON.parse(text) : text };
  }

  return {
    url,
    call,
    get: (route: string, headers?: Record<string, string>) => call("GET", route, undefined, headers),
    post: (route: string, body?: unknown, headers?: Record<string, string>) =>
      call("POST", route, body, headers),
    put: (route: string, body?: unknown, headers?: Record<string, string>) =>
      call("PUT", route, body, headers),
    upload: (task: string, file: Uint8Array, query = "") =>
      call("POST", `/tasks/${task}/prompts${query}`, file, { "content-type": promptFile }),
    /** A task that must come into being. */
    async task(body: object): Promise<void> {
      const made = await call("POST", "/tasks", body);
      expect(made, JSON.stringify(made.body)).toMatchObject({ status: 201 });
    },
    /** A job that must be taken, as it ended. */
    async job(route: string, body: object, timeout?: number): Promise<Json> {
      const { status, headers, body: taken } = await call("POST", route, body);
      expect(status, JSON.stringify(taken)).toBe(202);
      expect(headers.get("location")).toBe(`/jobs/${taken.id}`);
      return this.ended(taken.id, timeout);
    },
    /** A job as it ended. */
    ended: (id: string, timeout = 120_000): Promise<Json> =>
      vi.waitFor(
        async () => {
          const { body } = await call("GET", `/jobs/${id}`);
          expect(body.ended_at, JSON.stringify(body.log.at(-1))).not.toBeNull();
          return body;
        },
        { timeout, interval: 100 },
      ),
    /** An answer that must come. */
    async infer(task: string, body: object): Promise<InferReply & Json> {
      const answer = await call("POST", `/tasks/${task}/infer`, body);
      expect(answer, JSON.stringify(answer.body)).toMatchObject({ status: 200 });
      return answer.body;
    },
    backbone: async (): Promise<BackboneReport> => (await call("GET", "/backbone")).body,
    async metric(name: string): Promise<number> {
      const line = String((await call("GET", "/metrics")).body)
        .split("\n")
        .find(text => text.startsWith(name));
      return Number(line?.split(" ").at(-1));
    },
    async close(): Promise<void> {
      await running.close();
      await rm(data, { recursive: true, force: true });
    },
  };
}
export type TestServer = Awaited<ReturnType<typeof startServer>>;

/** A problem document: the whole of RFC 9457's members, and a detail that a person can act on. */
export function expectProblem(answer: Answer<Json>, status: number, code: string, more: object = {}): void {
  expect(answer.body).toMatchObject({
    type: `urn:foreword:problem:${code}`,
    status,
    code,
    title: expect.stringMatching(/\w/),
    detail: expect.stringMatching(/\w{3}.*[.)}]$/s),
    instance: expect.stringMatching(/^\//),
    ...more,
  });
  expect(answer.status).toBe(status);
  expect(answer.headers.get("content-type")).toContain("application/problem+json");
}

/** Deterministic small numbers, far from what a trained prompt holds but as finite. */
const wave = (length: number, phase: number, size = 0.1) =>
  Float32Array.from({ length }, (_, index) => size * Math.sin(index * 0.37 + phase));

/** Prompt files that fit the backbone. */
export const files = {
  soft: ({ hidden, fingerprint }: BackboneReport, length = 3, phase = 0) =>
    writePromptFile({
      kind: "soft",
      template: `{{ soft(${length}) }}Review: {{ input }}\nSentiment:`,
      backbone: fingerprint,
      recipe: { made: "by a test" },
      soft: { dims: [length, hidden], data: wave(length * hidden, phase) },
    }),
  prefix: ({ layers, kv_heads, head_dim, fingerprint }: BackboneReport, length = 4, phase = 0) => {
    const size = layers * kv_heads * length * head_dim;
    return writePromptFile({
      kind: "prefix",
      template: "Review: {{ input }}\nSentiment:",
      backbone: fingerprint,
      recipe: null,
      prefix: { dims: [layers, kv_heads, length, head_dim], key: wave(size, phase), value: wave(size, 1) },
    });
  },
};

/** The whole product, on a tiny checkpoint or another, and what tests of adapters ask it. */
import { expect } from "vitest";
import type { Config } from "../../src/config.ts";
import reference from "../fixtures/peft/reference.json" with { type: "json" };
import { type Adapter, unzip } from "../support/adapter.ts";
import { tinyBackbone } from "../support/tiny.ts";
import { startServer } from "./server.ts";

/** In fp32 unless said. */
export async function serveBackbone(path: string, settings: Partial<Config> = {}) {
  const server = await startServer(path, { precision: "fp32", ...settings });
  await server.task({ id: "next", type: "generation" });
  return {
    server,
    /** Log P of the target, behind the input. */
    async logP(prompt: number, input = reference.text): Promise<number> {
      const body = { input, prompt, targets: [reference.target], max_tokens: 1 };
      return (await server.infer("next", body)).targets[0].logprob;
    },
    async add(body: unknown, headers?: Record<string, string>): Promise<number> {
      const made = await server.post("/tasks/next/prompts", body, headers);
      expect(made, JSON.stringify(made.body)).toMatchObject({ status: 201 });
      return made.body.version;
    },
    async adapterOf(version: number, query = ""): Promise<Adapter & { "README.md": Buffer }> {
      const response = await fetch(`${server.url}/tasks/next/prompts/${version}?format=peft${query}`);
      expect(response.headers.get("content-type"), await response.clone().text()).toBe("application/zip");
      return (await unzip(new Uint8Array(await response.arrayBuffer()))) as never;
    },
    close: () => server.close(),
  };
}
export type Served = Awaited<ReturnType<typeof serveBackbone>>;

export async function serveTiny(name: string, bos: boolean, settings: Partial<Config> = {}): Promise<Served> {
  const tiny = await tinyBackbone(name, bos);
  const served = await serveBackbone(tiny.path, { bodyLimit: 100_000, ...settings });
  const close = async () => {
    await served.close();
    await tiny.remove();
  };
  return { ...served, close };
}

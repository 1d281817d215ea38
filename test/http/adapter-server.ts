/** The whole product on a tiny checkpoint, and what tests of adapters ask it. */
import { expect } from "vitest";
import reference from "../fixtures/peft/reference.json" with { type: "json" };
import { type Adapter, unzip } from "../support/adapter.ts";
import { type TinyBackbone, tinyBackbone } from "../support/tiny.ts";
import { startServer } from "./server.ts";

export async function serve(name: string, bos: boolean, precision: "fp32" | "int8" = "fp32") {
  const tiny: TinyBackbone = await tinyBackbone(name, bos);
  const server = await startServer(tiny.path, { precision, bodyLimit: 100_000 });
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
    async close(): Promise<void> {
      await server.close();
      await tiny.remove();
    },
  };
}
export type Served = Awaited<ReturnType<typeof serve>>;

/** The whole product, on a tiny checkpoint or another, and what tests of adapters ask it. */
import { expect } from "vitest";
import type { Config } from "../../src/config.ts";
import type { BackboneReport } from "../../src/contract/backbone.ts";
import { writePromptFile } from "../../src/prompt/file.ts";
import reference from "../fixtures/peft/reference.json" with { type: "json" };
import { type Adapter, unzip } from "../support/adapter.ts";
import { tinyBackbone } from "../support/tiny.ts";
import { files, promptFile, startServer } from "./server.ts";

/** Kinds of prompts, and one that is stacked on a mixed one. */
export const kinds = ["hard", "soft", "prefix", "mixed", "stacked"] as const;

/** In fp32 unless said. */
export async function serveBackbone(path: string, settings: Partial<Config> = {}) {
  const server = await startServer(path, { precision: "fp32", ...settings });
  await server.task({ id: "next", type: "generation" });
  const post = async (body: unknown, headers?: Record<string, string>): Promise<number> => {
    const made = await server.post("/tasks/next/prompts", body, headers);
    expect(made, JSON.stringify(made.body)).toMatchObject({ status: 201 });
    return made.body.version;
  };
  const file = (bytes: Uint8Array) => post(bytes, { "content-type": promptFile });
  return {
    server,
    /** Adds a prompt, and returns its version. */
    add: post,
    async addKind(kind: (typeof kinds)[number]): Promise<number> {
      const backbone = await server.backbone();
      if (kind === "hard") return post({ template: "Once. {{ input }}\nThen:" });
      if (kind === "soft") return file(files.soft(backbone, 4));
      if (kind === "prefix") return file(files.prefix(backbone, 4));
      const version = await file(mixed(backbone));
      return kind === "mixed"
        ? version
        : post({ template: "Now {{ input }}\nThen:", on: { task: "next", version } });
    },
    /** Log P of the target, behind the input. */
    async logP(prompt: number, input = reference.text): Promise<number> {
      const body = { input, prompt, targets: [reference.target], max_tokens: 1 };
      return (await server.infer("next", body)).targets[0].logprob;
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

/** A prompt with a trained prefix, words and virtual tokens before the input. */
function mixed({ layers, kv_heads, head_dim, hidden, fingerprint }: BackboneReport): Uint8Array {
  const wave = (size: number) => Float32Array.from({ length: size }, (_, at) => Math.sin(at * 1.7));
  const size = layers * kv_heads * 2 * head_dim;
  return writePromptFile({
    kind: "mixed",
    template: "Well, {{ soft(3) }} so: {{ input }}\nthen",
    backbone: fingerprint,
    recipe: null,
    soft: { dims: [3, hidden], data: wave(3 * hidden) },
    prefix: { dims: [layers, kv_heads, 2, head_dim], key: wave(size), value: wave(size) },
  });
}

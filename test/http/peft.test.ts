import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import reference from "../fixtures/peft/reference.json" with { type: "json" };
import { adapters, formOf, readAdapter, unzip } from "../support/adapter.ts";
import { type TinyBackbone, tinyBackbone } from "../support/tiny.ts";
import { expectProblem, startServer, type TestServer } from "./server.ts";

const { text, target, length } = reference;

describe.each([
  ["llama", false],
  ["llama", true],
  ["qwen3", false],
  ["gpt2", true],
] as const)("adapters of PEFT on a tiny %s, BOS: %s", (name, bos) => {
  let tiny: TinyBackbone;
  let server: TestServer;
  beforeAll(async () => {
    tiny = await tinyBackbone(name, bos);
    server = await startServer(tiny.path, { precision: "fp32" });
    await server.task({ id: "next", type: "generation" });
  });
  afterAll(async () => {
    await server?.close();
    await tiny.remove();
  });

  const logP = async (prompt: number, input = text) => {
    const body = { input, prompt, targets: [target], max_tokens: 1 };
    return (await server.infer("next", body)).targets[0].logprob as number;
  };

  const here = reference.adapters.filter(each => each.backbone === name && each.bos === bos);
  test.each(here)("$adapter: log P is PEFT's", async ({ adapter, task, log_p }) => {
    const files = readAdapter(join(adapters, name, adapter));
    const made = await server.post("/tasks/next/prompts", formOf({ ...files, task_index: task }));
    expect(made, JSON.stringify(made.body)).toMatchObject({ status: 201 });
    expect(Math.abs((await logP(made.body.version)) - log_p)).toBeLessThan(1e-3);
  });
});

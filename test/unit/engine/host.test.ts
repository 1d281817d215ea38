/** The engine as the server holds it: closed while it loads. */
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, test, vi } from "vitest";
import { createEngine } from "../../../src/engine/host.ts";
import { tinyBackbone } from "../../support/tiny.ts";

const begun = vi.hoisted(() => ({ workers: 0 }));
vi.mock(import("node:worker_threads"), async original => {
  const { Worker, ...rest } = await original();
  return {
    ...rest,
    Worker: class extends Worker {
      constructor(...args: ConstructorParameters<typeof Worker>) {
        super(...args);
        begun.workers++;
      }
    },
  };
});

test("what is closed before its worker begins starts none", async () => {
  const backbone = await tinyBackbone("llama", false);
  const data = await mkdtemp(join(tmpdir(), "foreword-host-"));
  const errors: unknown[] = [];
  const engine = createEngine({
    backbone: backbone.path,
    data,
    runtime: "onnx",
    threads: 1,
    precision: "fp32",
    cacheBytes: 1e6,
    batchTokens: 64,
    queue: 4,
    prompts: { load: () => Promise.reject(new Error("there is none")) },
    log: { info: () => {}, error: (_, text) => errors.push(text) },
  });
  try {
    await engine.close();
    await expect(engine.ready()).rejects.toMatchObject({ code: "draining" });
    await expect(engine.statistics()).rejects.toThrow(/shutting down\. Ask another one/);
    expect([begun.workers, errors]).toEqual([0, []]);
  } finally {
    await backbone.remove();
    await rm(data, { recursive: true, force: true });
  }
});

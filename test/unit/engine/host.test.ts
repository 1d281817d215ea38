/** The engine as the server holds it: closed while it loads, its worker gone. */
import { cp, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, onTestFinished, test, vi } from "vitest";
import { greedy, type PromptContent, type PromptSource } from "../../../src/engine/engine.ts";
import { createEngine } from "../../../src/engine/host.ts";
import { tinyBackbone } from "../../support/tiny.ts";

const begun = vi.hoisted(() => ({ workers: [] as { terminate(): Promise<number> }[] }));
vi.mock(import("node:worker_threads"), async original => {
  const { Worker, ...rest } = await original();
  return {
    ...rest,
    Worker: class extends Worker {
      constructor(...args: ConstructorParameters<typeof Worker>) {
        super(...args);
        begun.workers.push(this);
      }
    },
  };
});

async function opened(
  load: PromptSource["load"] = async () => ({ template: "{{ input }}", parameters: null }),
  name?: string,
) {
  const backbone = await tinyBackbone("llama", false);
  const data = await mkdtemp(join(tmpdir(), "foreword-host-"));
  const errors: unknown[] = [];
  begun.workers.length = 0;
  const engine = createEngine({
    backbone: name ?? backbone.path,
    data,
    runtime: "onnx",
    threads: 1,
    precision: "fp32",
    cacheBytes: 1e6,
    batchTokens: 64,
    queue: 4,
    patient: true,
    prompts: { load },
    log: { info: () => {}, error: (_, text) => errors.push(text) },
  });
  onTestFinished(async () => {
    await engine.close();
    await backbone.remove();
    await rm(data, { recursive: true, force: true });
  });
  return { engine, errors, data, backbone: backbone.path };
}

test("what is closed before its worker begins starts none", async () => {
  const { engine, errors } = await opened();
  await engine.close();
  await expect(engine.ready()).rejects.toMatchObject({ code: "draining" });
  await expect(engine.statistics()).rejects.toThrow(/shutting down\. Ask another one/);
  expect([begun.workers, errors]).toEqual([[], []]);
});

test("a backbone that could not be had is fetched again", async () => {
  const hub = "http://127.0.0.1:9";
  vi.stubEnv("HF_ENDPOINT", hub);
  onTestFinished(() => void vi.unstubAllEnvs());
  const { engine, errors, data, backbone } = await opened(undefined, "owner/name");
  await vi.waitFor(() => expect(engine.state()).toMatchObject({ status: "failed" }));
  await expect(engine.statistics()).rejects.toMatchObject({ code: "backbone_unavailable" });
  expect(errors).toEqual(["the backbone cannot be served"]);
  const place = join(data, "backbones", "owner", "name");
  await cp(backbone, place, { recursive: true });
  await writeFile(join(place, ".complete"), "");
  await engine.ready();
  expect(engine.state()).toMatchObject({ status: "ready" });
});

test("where its worker ends another one takes its place; what it owed is told", async () => {
  const { engine, errors } = await opened();
  await engine.ready();
  const ask = () =>
    engine.infer(
      { kind: "generate", prompt: "p", fields: "a", maxTokens: 100, ...greedy },
      { deadline: Date.now() + 60_000 },
    );
  const owed = ask();
  const told = expect(owed).rejects.toMatchObject({
    code: "not_ready",
    message: expect.stringMatching(/stopped, and starts again.*Send the request again/),
  });
  await begun.workers[0]!.terminate();
  await told;
  expect(engine.state()).toMatchObject({ status: "loading", phase: "starting again" });
  await expect(ask()).rejects.toMatchObject({ code: "not_ready" });
  await engine.ready();
  expect((await ask()).usage.output_tokens).toBeGreaterThan(0);
  expect(begun.workers).toHaveLength(2);
  expect(errors).toEqual(["the engine's worker ended; another one starts"]);
});

test("a prompt that comes after its worker has ended is nobody's: the next one takes none for another", async () => {
  /** Prompts that are being read, in the order in which they were asked for. */
  const reading: ((content: PromptContent) => void)[] = [];
  const { engine, errors } = await opened(() => new Promise(resolve => reading.push(resolve)));
  await engine.ready();
  const ask = (prompt: string) =>
    engine.infer(
      { kind: "generate", prompt, fields: "a", maxTokens: 1, ...greedy },
      { deadline: Date.now() + 60_000 },
    );
  const asked = (count: number) => vi.waitFor(() => expect(reading).toHaveLength(count));
  const content = (template: string) => ({ template, parameters: null });
  const owed = expect(ask("late")).rejects.toThrow(/Send the request again/);
  const further = expect(ask("later")).rejects.toThrow(/Send the request again/);
  await asked(2);
  await begun.workers[0]!.terminate();
  await Promise.all([owed, further]);
  await engine.ready();
  const now = ask("now");
  await asked(3);
  // One has the number of what the new worker waits for, the other none that it knows.
  reading[0]!(content("Long words that are another prompt's: {{ input }}"));
  reading[1]!(content("{{ input }}!"));
  await engine.statistics();
  reading[2]!(content("{{ input }}"));
  expect((await now).usage.input_tokens).toBe(1);
  expect(begun.workers).toHaveLength(2);
  expect(errors).toEqual(["the engine's worker ended; another one starts"]);
});

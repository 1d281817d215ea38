/** The bundled library as the first start registers it. */
import { mkdtemp, readdir, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, expect, test } from "vitest";
import type { PromptRecord } from "../../src/contract/prompt.ts";
import type { Engine, PromptContent } from "../../src/engine/engine.ts";
import { ForewordError } from "../../src/errors.ts";
import { createLogger } from "../../src/observe/log.ts";
import { readPromptFile } from "../../src/prompt/file.ts";
import { openLmdbRegistry } from "../../src/registry/lmdb.ts";
import { loadLibrary } from "../../src/server/library.ts";
import { describeBackbone } from "../support/backbone.ts";
import { startServer, type TestServer } from "./server.ts";

const folder = fileURLToPath(new URL("../../prompts", import.meta.url));
const about = async (task: string, file: string) =>
  JSON.parse(await readFile(join(folder, task, file), "utf8"));

describeBackbone("on the backbone that it was trained on", path => {
  let server: TestServer;
  beforeAll(async () => {
    server = await startServer(path);
  });
  afterAll(() => server.close());

  test("every task has its hard prompt and what was trained for it, with their scores, and what comes last answers", async () => {
    const names = await readdir(folder);
    const { items: tasks } = (await server.get("/tasks")).body;
    expect(tasks.map(({ id }: { id: string }) => id)).toEqual(names.sort());
    for (const { id, active } of tasks) {
      const { items } = (await server.get(`/tasks/${id}/prompts`)).body as { items: PromptRecord[] };
      const files = await readdir(join(folder, id));
      const trained = ["soft", "prefix"].filter(method => files.includes(`${method}.safetensors`));
      expect(items.map(({ kind }) => kind)).toEqual(["hard", ...trained]);
      expect(items.map(({ metrics }) => metrics)).toEqual([
        (await about(id, "task.json")).scores,
        ...(await Promise.all(trained.map(method => about(id, `${method}.json`)))),
      ]);
      const hard = (await about(id, "task.json")).active;
      expect(active).toEqual(trained.length > 0 ? { prompt: items.length } : hard);
    }
  });

  test("what was trained is better on dev than the hard prompt", async () => {
    for (const id of await readdir(folder)) {
      const { scores } = await about(id, "task.json");
      const files = (await readdir(join(folder, id))).filter(file => /^(soft|prefix)\.json$/.test(file));
      expect(files, id).toContain("prefix.json");
      for (const file of files) {
        const trained = await about(id, file);
        expect(trained.metric, id).toBe(scores.metric);
        expect(trained.dev, `${id}, ${file}`).toBeGreaterThan(scores.dev);
      }
    }
  });
});

test("a registration that was cut short anywhere is made good at the next start; what was deleted later stays so", async () => {
  const data = await mkdtemp(join(tmpdir(), "foreword-library-"));
  const registry = await openLmdbRegistry(join(data, "registry"));
  const { backbone: fingerprint } = readPromptFile(
    await readFile(join(folder, "spam", "prefix.safetensors")),
  );
  let left = 0;
  const engine = {
    backbone: () => ({ name: "the same", fingerprint }),
    inspect: async () => {
      if (left-- === 0) throw new Error("cut short");
      return { digest: "", length: 9, softLengths: [[]] };
    },
  } as unknown as Engine;
  const log = createLogger("silent");
  for (let after = 0; after < 6; after++) {
    left = after;
    await expect(loadLibrary(registry, engine, log)).rejects.toThrow("cut short");
  }
  left = -1;
  await loadLibrary(registry, engine, log);
  const { items } = await registry.listTasks();
  expect(items.map(({ id }) => id)).toEqual((await readdir(folder)).sort());
  for (const { id, active } of items) {
    expect((await registry.listPrompts(id)).items.map(({ kind }) => kind)).toEqual([
      "hard",
      "soft",
      "prefix",
    ]);
    expect(active).toEqual({ prompt: 3 });
  }
  await registry.deleteTask("spam");
  await loadLibrary(registry, engine, log);
  expect((await registry.listTasks()).items.map(({ id }) => id)).not.toContain("spam");
  await registry.close();
  await rm(data, { recursive: true });
});

test("a bundled task that is deleted while it is being registered stays deleted, and holds up none", async () => {
  const data = await mkdtemp(join(tmpdir(), "foreword-library-"));
  const registry = await openLmdbRegistry(join(data, "registry"));
  const { backbone: fingerprint } = readPromptFile(
    await readFile(join(folder, "spam", "prefix.safetensors")),
  );
  const [first] = (await readdir(folder)).sort();
  let asked = 0;
  const engine = {
    backbone: () => ({ name: "the same", fingerprint }),
    inspect: async () => {
      // For its hard prompt, then for what is trained.
      if (++asked === 2) await registry.deleteTask(first!);
      return { digest: "", length: 9, softLengths: [[]] };
    },
  } as unknown as Engine;
  await loadLibrary(registry, engine, createLogger("silent"));
  const { items } = await registry.listTasks();
  expect(items.map(({ id }) => id)).toEqual((await readdir(folder)).sort().slice(1));
  expect(items.every(({ active }) => active?.prompt === 3)).toBe(true);
  await registry.close();
  await rm(data, { recursive: true });
});

test("on another backbone the hard prompts answer alone, calibrated", async () => {
  const data = await mkdtemp(join(tmpdir(), "foreword-library-"));
  const registry = await openLmdbRegistry(join(data, "registry"));
  const other = {
    backbone: () => ({ name: "other", fingerprint: "0".repeat(64) }),
    inspect: async () => ({ digest: "", length: 9, softLengths: [[]] }),
  } as unknown as Engine;
  await loadLibrary(registry, other, createLogger("silent"));
  const { items } = await registry.listTasks();
  expect(items).toHaveLength(5);
  for (const { id, active } of items) {
    expect((await registry.listPrompts(id)).items.map(({ kind }) => kind)).toEqual(["hard"]);
    expect(active).toEqual((await about(id, "task.json")).active);
  }
  await registry.close();
  await rm(data, { recursive: true });
});

test("a bundled task whose words the backbone's context cannot hold is left out", async () => {
  const data = await mkdtemp(join(tmpdir(), "foreword-library-"));
  const registry = await openLmdbRegistry(join(data, "registry"));
  const short = {
    backbone: () => ({ name: "short", fingerprint: "0".repeat(64) }),
    inspect: async ({ template }: PromptContent) => {
      if (template.length > 5000) throw new ForewordError("input_too_long", "It does not fit.");
      return { digest: "", length: 9, softLengths: [[]] };
    },
  } as unknown as Engine;
  await loadLibrary(registry, short, createLogger("silent"));
  const { items } = await registry.listTasks();
  expect(items).toHaveLength(4);
  expect(items.map(({ id }) => id)).not.toContain("banking-intent");
  await registry.close();
  await rm(data, { recursive: true });
});

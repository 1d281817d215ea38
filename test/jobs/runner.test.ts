/** A registry that is away for a moment, at any of a runner's own calls, costs the job that moment and nothing else. */
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test, vi } from "vitest";
import type { JobKind } from "../../src/contract/job.ts";
import type { Engine } from "../../src/engine/engine.ts";
import { ForewordError } from "../../src/errors.ts";
import { openEmbeddedJobs } from "../../src/jobs/embedded.ts";
import { written } from "../../src/jobs/patience.ts";
import { createRunner } from "../../src/jobs/runner.ts";
import { openLmdbRegistry } from "../../src/registry/lmdb.ts";
import { unavailable } from "../../src/registry/problems.ts";
import type { JobRecord, Registry } from "../../src/registry/registry.ts";
import { hard, later, newJob, newTask } from "../registry/records.ts";

let folder: string;
let registry: Registry;
let blob: string;
let born: string;
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), "foreword-runner-"));
  registry = await openLmdbRegistry(folder);
  born = (await registry.createTask(newTask("t"), hard(), "ann")).created_at;
  blob = await registry.putBlob(Buffer.from("examples"));
});
afterEach(async () => {
  await registry.close();
  await rm(folder, { recursive: true, force: true });
});

/** Here no trainer can be started: a job that fails for that reason had all that it needs. */
const { execPath } = process;
beforeAll(() => {
  process.execPath = "/nowhere/node";
});
afterAll(() => {
  process.execPath = execPath;
});

/** The registry, which is away at these calls of one of its methods, counted from 1. */
function awayAt(method: keyof Registry, calls: (call: number) => boolean): Registry {
  let call = 0;
  return new Proxy(registry, {
    get(target, name) {
      const own = Reflect.get(target, name) as (...given: unknown[]) => Promise<unknown>;
      if (name !== method) return own;
      return async (...given: unknown[]) => {
        if (calls(++call)) throw unavailable("Redis does not answer.");
        return own.apply(target, given);
      };
    },
  });
}

const engine = {
  ready: async () => {},
  state: () => ({ status: "ready" }),
  backbone: () => ({ name: "tiny", fingerprint: "f", precision: { active: "fp32", table: [] } }),
} as unknown as Engine;
const runnerOf = (of: Registry) =>
  createRunner({
    registry: of,
    engine,
    place: { backbone: "/nowhere", data: "/nowhere", runtime: "onnx", threads: 1 },
    watchBusy: () => () => {},
    log: { error: () => {} },
  });

const template = "Text: {{ input }}\nLabel:";
const settings = { precision: "fp32", seed: 1 };
const data = () => ({ examples: blob, validation: blob, base: blob, template, settings });
const training = () => ({
  ...data(),
  activate: false,
  parent: null,
  verbalizers: null,
  on: null,
  teacher: null,
});
/** Of each kind one that makes every call of its runner that comes before its trainer. */
const requests: Record<string, { kind: JobKind; request: () => object; calls: (keyof Registry)[] }> = {
  train: {
    kind: "train",
    request: () => ({ ...training(), ensemble: null }),
    calls: ["getTask", "getPrompt", "getBlob"],
  },
  member: {
    kind: "train",
    request: () => ({ ...training(), ensemble: { members: [settings], vote: "mean" } }),
    calls: ["listPrompts", "getBlob"],
  },
  evaluate: {
    kind: "evaluate",
    request: () => ({
      contenders: [{ prompt: 1, active: { prompt: 1 } }],
      examples: blob,
      settings: {},
      stores: null,
    }),
    calls: ["getTask", "getPrompt", "getBlob"],
  },
  search: {
    kind: "search",
    request: () => ({ ...data(), keep: 1, activate: false }),
    calls: ["getTask", "getPrompt", "getBlob"],
  },
  donors: {
    kind: "donors",
    request: () => ({ ...data(), verbalizers: null, donors: [{ task: "t", version: 1 }] }),
    calls: ["getTask", "getPrompt", "getBlob"],
  },
};
const cases = Object.entries(requests).flatMap(([name, { kind, request, calls }]) =>
  calls.map(method => ({ name, kind, request, method })),
);

async function run(of: Registry, kind: JobKind, request: object) {
  return runOf(of, await registry.putJob({ ...newJob("job-1"), born, kind, request }));
}

async function runOf(of: Registry, record: JobRecord) {
  const log: string[] = [];
  const control = {
    signal: new AbortController().signal,
    progress: () => {},
    log: (text: string) => log.push(text),
    checkpoint: async () => {},
  };
  const error = await runnerOf(of)(record, control).catch((thrown: Error) => thrown);
  return { error, log };
}

test.each(cases)("before its trainer starts, $name waits for $method", async ({ kind, request, method }) => {
  const { error, log } = await run(
    awayAt(method, call => call === 1),
    kind,
    request(),
  );
  expect(error).toMatchObject({ code: "ENOENT" });
  expect(log.filter(line => /can't be read yet\. Redis does not answer/.test(line))).toHaveLength(1);
});

test.each(["not_ready", "backbone_unavailable"] as const)(
  "what a job writes waits for an engine that is %s",
  async code => {
    const log: string[] = [];
    const { signal } = new AbortController();
    const work = {
      options: { log: { error: () => {} } },
      record: { id: "job-1" },
      control: { signal, log: (text: string) => void log.push(text) },
    };
    let calls = 0;
    const write = async () => {
      if (++calls === 1) throw new ForewordError(code, "The engine starts again.");
      return calls;
    };
    expect(await written(work, write, { waits: "", told: "not saved yet." })).toBe(2);
    expect(log).toEqual(["not saved yet. The engine starts again."]);
  },
);

test("a training whose checkpoint is lost begins again, and says so", async () => {
  const checkpoint = await registry.putBlob(Buffer.from("saved"));
  const { kind, request } = requests.train!;
  const wanted = { ...newJob("job-1"), born, kind, request: request(), checkpoint, blobs: [checkpoint] };
  const record = await registry.putJob(wanted);
  await registry.updateJob("job-1", { blobs: [] });
  await registry.dropBlob(checkpoint);
  const { error, log } = await runOf(registry, record);
  expect(error).toMatchObject({ code: "ENOENT" });
  expect(log).toEqual(["its last checkpoint is gone; it begins again"]);
});

test.each(Object.entries(requests))(
  "a job of kind %s is not for a later task of the name",
  async (_, { kind, request }) => {
    await registry.deleteTask("t");
    await later(born);
    await registry.createTask(newTask("t"), hard(), "ann");
    const { error } = await run(registry, kind, request());
    expect(error).toMatchObject({
      code: "task_not_found",
      message: expect.stringContaining("created later"),
    });
  },
);

describe("an ensemble whose members are trained", () => {
  const methods = [
    { method: "getTask", call: 2 },
    { method: "getPrompt", call: 1 },
    { method: "getBlob", call: 1 },
  ] as const;
  test.each(methods)("waits before they are judged: $method", async ({ method, call }) => {
    for (const member of [0, 1])
      await registry.addPrompt("t", { ...hard(), recipe: { job: "job-1", member } });
    const request = { ...training(), ensemble: { members: [settings, settings], vote: "mean" } };
    const away = awayAt(method, at => at === call);
    const { error, log } = await run(away, "train", request);
    expect(error).toMatchObject({ code: "ENOENT" });
    expect(log).toEqual([expect.stringContaining("can't be read yet")]);
  });
});

test("a job that waits for a registry that stays away is cancelled at once, and asks no more than now and then", async () => {
  let asked = 0;
  const away = awayAt("getTask", () => ++asked > 0);
  const jobs = await openEmbeddedJobs({ registry, runner: runnerOf(away), log: { error: () => {} } });
  try {
    const request = { ...training(), ensemble: null };
    const wanted = { task: "t", born, kind: "train" as const, request, backbone: "f", blobs: [] };
    const { id } = await jobs.submit(wanted);
    await vi.waitFor(() => expect(asked).toBe(3), 5000);
    expect((await registry.getJob(id)).state).toBe("running");
    const before = Date.now();
    expect((await jobs.cancel(id)).state).toBe("cancelled");
    expect(Date.now() - before).toBeLessThan(1000);
    expect(asked).toBeLessThanOrEqual(4);
  } finally {
    await jobs.close();
  }
});

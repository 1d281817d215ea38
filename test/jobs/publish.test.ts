/** What a job leaves in the registry, once, however often it is started again. */
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { activatedBy, activateOnce, versionOf } from "../../src/jobs/publish.ts";
import type { TrainWork } from "../../src/jobs/train-work.ts";
import { openLmdbRegistry } from "../../src/registry/lmdb.ts";
import type { NewPrompt, Registry } from "../../src/registry/registry.ts";

let folder: string;
let registry: Registry;
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), "foreword-publish-"));
  registry = await openLmdbRegistry(folder);
  const task = { id: "t", type: "classification", labels: ["a", "b"], description: "" } as const;
  await registry.createTask({ ...task, labels: [...task.labels] }, hard(null), "ann");
  for (const member of [0, 1]) await registry.addPrompt("t", hard({ job: "job-1", member }));
});
afterEach(async () => {
  await registry.close();
  await rm(folder, { recursive: true, force: true });
});

const hard = (recipe: object | null): NewPrompt => ({
  name: null,
  kind: "hard",
  template: "{{ input }}:",
  parameters: null,
  length: 1,
  bytes: 0,
  backbone: { name: "b", fingerprint: "0".repeat(64) },
  parent: null,
  recipe,
  metrics: null,
});

const activate = (wanted: boolean, job = "job-1") =>
  activateOnce(
    {
      options: { registry, log: { error: () => {} } },
      record: { id: job, task: "t" },
      control: { signal: new AbortController().signal, log: () => {} },
    } as unknown as TrainWork,
    { prompt: 2 },
    wanted,
  );
const active = async () => (await registry.getTask("t")).active;

test("a job activates once: a roll-back since then stays, and it still says what it did", async () => {
  expect(await activate(false)).toBe(false);
  expect(await active()).toEqual({ prompt: 1 });
  expect(await activate(true)).toBe(true);
  expect(await active()).toEqual({ prompt: 2 });
  await registry.setActive("t", { prompt: 1 }, "ann");
  // Started again after a kill between the activation and its end, it now compares with something else.
  for (const wanted of [true, false]) expect(await activate(wanted)).toBe(true);
  expect(await active()).toEqual({ prompt: 1 });
  expect(await activatedBy(registry, "t", "job-2")).toBe(false);
  expect(await activate(true, "job-2")).toBe(true);
  expect(await active()).toEqual({ prompt: 2 });
});

test("a member's version is found again by its job and place", async () => {
  expect((await versionOf(registry, "t", "job-1", 0))?.version).toBe(2);
  expect((await versionOf(registry, "t", "job-1", 1))?.version).toBe(3);
  expect(await versionOf(registry, "t", "job-1")).toBeUndefined();
  expect(await versionOf(registry, "t", "job-2", 0)).toBeUndefined();
});

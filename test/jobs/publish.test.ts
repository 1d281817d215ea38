/** What a job leaves in the registry, once, however often it is started again. */
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, onTestFinished, test } from "vitest";
import type { Active, Task } from "../../src/contract/task.ts";
import type { Activate } from "../../src/contract/train.ts";
import { store } from "../../src/jobs/evaluate.ts";
import { activatedBy, activateOnce, addOnce, type Found, versionOf } from "../../src/jobs/publish.ts";
import type { TrainWork } from "../../src/jobs/train-work.ts";
import { openLmdbRegistry } from "../../src/registry/lmdb.ts";
import { openRedisRegistry } from "../../src/registry/redis.ts";
import type { NewPrompt, Registry } from "../../src/registry/registry.ts";
import { later, newJob, newTask } from "../registry/records.ts";
import { describeRedis } from "../support/redis.ts";
import { RedisServer } from "../support/redis-server.ts";

let folder: string;
let registry: Registry;
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), "foreword-publish-"));
  registry = await openLmdbRegistry(folder);
  const task = { id: "t", type: "classification", labels: ["a", "b"], description: "" } as const;
  await registry.createTask({ ...task, labels: [...task.labels] }, hard(null), "ann");
  for (const member of [0, 1]) await registry.addPrompt("t", hard({ job: "job-1", member }));
  await putJobs(registry);
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

const putJobs = async (of: Registry) => {
  for (const job of ["job-1", "job-2", "job-3", "job-4"]) await of.putJob(newJob(job));
};
const workOf = (job: string, of: Registry) =>
  ({
    options: { registry: of, log: { error: () => {} } },
    record: { id: job, task: "t", holder: null },
    control: { signal: new AbortController().signal, log: () => {} },
  }) as unknown as TrainWork;
/** Version 2, found by a job that read the task as it is now or as it was `before`. */
const found = async (activate: Activate, before?: Task): Promise<Found> => ({
  active: { prompt: 2 },
  name: "version 2",
  activate,
  better: true,
  few: null,
  validation: { active: 0.5 },
  task: before ?? (await registry.getTask("t")),
});
/** What an evaluation found. */
const fitted = (temperature: number, after = 0.2, p = 0.01) => ({
  log_loss: 0.3,
  calibration: { temperature, after: { log_loss: after, expected_calibration_error: 0.1 }, p_value: p },
});
const activate = async (wanted: boolean, job = "job-1") =>
  activateOnce(workOf(job, registry), await found(wanted));
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

test("when a label is in doubt stays the task's to say; fitted numbers go with their prompt", async () => {
  const before: Active = { prompt: 1, unsure_below: 0.6, temperature: 1.3, bias: { a: 1 } };
  await registry.setActive("t", before, "ann");
  expect(await activate(true)).toBe(true);
  expect(await active()).toEqual({ prompt: 2, unsure_below: 0.6 });
  await registry.setActive("t", { ensemble: [1, 2], unsure_below: 0.6, agreement_below: 0.5 }, "ann");
  const ensemble: Active = { ensemble: [2, 3], vote: "mean" };
  expect(await activateOnce(workOf("job-2", registry), { ...(await found(true)), active: ensemble })).toBe(
    true,
  );
  expect(await active()).toEqual({ ...ensemble, unsure_below: 0.6, agreement_below: 0.5 });
  expect(await activate(true, "job-3")).toBe(true);
  expect(await active()).toEqual({ prompt: 2, unsure_below: 0.6 });
});

describe("only if better", () => {
  const log: string[] = [];
  const decide = async (patch: Partial<Found>, before?: Task) => {
    log.length = 0;
    const work = workOf("job-1", registry);
    work.control.log = text => log.push(text);
    return activateOnce(work, { ...(await found("if_better", before)), ...patch });
  };

  test("what it was compared with gives way", async () => {
    expect(await decide({ better: false })).toBe(false);
    expect(log).toEqual([expect.stringContaining("not better beyond chance")]);
    expect(await decide({})).toBe(true);
    expect(await active()).toEqual({ prompt: 2 });
  });

  test("of validation examples that are too few to tell that is said, with a remedy", async () => {
    expect(await decide({ better: false, few: { examples: 5, least: 6 } })).toBe(false);
    expect(log).toEqual([
      expect.stringMatching(/^5 validation examples are too few.* 6 .*"activate": true$/),
    ]);
  });

  test("what a person activated meanwhile stays", async () => {
    const before = await registry.getTask("t");
    await registry.setActive("t", { prompt: 3 }, "ann");
    expect(await decide({}, before)).toBe(false);
    expect(await active()).toEqual({ prompt: 3 });
    expect(log).toEqual([expect.stringContaining("activated meanwhile")]);
  });

  test("what it can't be compared with stays", async () => {
    expect(await decide({ validation: { active: null } })).toBe(false);
    expect(await active()).toEqual({ prompt: 1 });
    expect(log).toEqual([expect.stringContaining("can't be compared")]);
  });
});

test("a temperature is stored only where the log loss is lower with it beyond chance", async () => {
  const { active_revision } = await registry.getTask("t");
  const log: string[] = [];
  const work = workOf("job-1", registry);
  work.control.log = text => log.push(text);
  for (const after of [0.3, 3.7302])
    expect(await store(work, active_revision, fitted(0.05, after))).toBe(false);
  expect(await store(work, active_revision, fitted(20, 0.2, 0.05))).toBe(false);
  expect(await active()).toEqual({ prompt: 1 });
  expect(log[1]).toMatch(/0\.050 is not stored.*3\.7302 with it and 0\.3000 without.*More examples/);
  expect(await store(work, active_revision, fitted(1.5))).toBe(true);
  expect(await active()).toEqual({ prompt: 1, temperature: 1.5 });
});

test("what a job found is not for a later task of the name", async () => {
  const { created_at: born } = await registry.getTask("t");
  const decision = await found(true);
  await registry.deleteTask("t");
  await later(born);
  const task = await registry.createTask(newTask("t"), hard(null), "ann");
  await registry.addPrompt("t", hard(null));
  const work = workOf("job-1", registry);
  work.record.born = born;
  const told = { waits: "", told: "" };
  for (const wrong of [
    () => addOnce(work, {}, async () => hard({ job: "job-1" }), told),
    () => activateOnce(work, decision),
    () => store(work, task.active_revision, fitted(1.5)),
  ])
    await expect(wrong()).rejects.toMatchObject({ code: "task_not_found" });
  expect(await registry.getTask("t")).toMatchObject({
    prompts: 2,
    active: { prompt: 1 },
    active_revision: 1,
  });
});

test.each([
  ["has ended", { ended_at: "2026-01-01T00:00:00.000Z", state: "cancelled" }],
  ["runs elsewhere", { holder: "another" }],
] as const)("a job that %s adds, activates and stores nothing", async (_, patch) => {
  const before = await registry.getTask("t");
  const decision = await found(true);
  const work = workOf("job-2", registry);
  await registry.updateJob("job-2", patch);
  const refusal = { code: "revision_conflict", fields: { job: "job-2" } };
  const add = addOnce(work, {}, async () => hard({ job: "job-2" }), { waits: "", told: "" });
  await expect(add).rejects.toMatchObject(refusal);
  await expect(activateOnce(work, decision)).rejects.toMatchObject(refusal);
  expect(await store(work, before.active_revision, fitted(1.5))).toBe(false);
  expect(await registry.getTask("t")).toEqual(before);
});

test.each([true, "if_better"] as const)(
  "what was judged by other labels than the task has now is not activated (%s)",
  async wanted => {
    const decision = await found(wanted);
    const labels = ["a", "c"];
    await registry.patchTask("t", { labels });
    const log: string[] = [];
    const work = workOf("job-1", registry);
    work.control.log = text => log.push(text);
    expect(await activateOnce(work, decision)).toBe(false);
    expect(await active()).toEqual({ prompt: 1 });
    expect(log).toEqual([expect.stringMatching(/^the task's labels were changed meanwhile.*version 2/)]);
    // The same ones again are no others.
    await registry.patchTask("t", { labels: ["a", "b"] });
    expect(await activateOnce(work, decision)).toBe(true);
  },
);

test("a version that was deleted before it could be activated costs the job nothing else", async () => {
  const log: string[] = [];
  const work = workOf("job-1", registry);
  work.control.log = text => log.push(text);
  await registry.deletePrompt("t", 2);
  expect(await activateOnce(work, await found(true))).toBe(false);
  expect(await active()).toEqual({ prompt: 1 });
  expect(log).toEqual(["version 2 was deleted meanwhile; what is active stays"]);
});

test("a member's version is found again by its job and place", async () => {
  expect((await versionOf(registry, "t", "job-1", { member: 0 }))?.version).toBe(2);
  expect((await versionOf(registry, "t", "job-1", { member: 1 }))?.version).toBe(3);
  expect(await versionOf(registry, "t", "job-1", { member: 0, template: "other words" })).toBeUndefined();
  expect(await versionOf(registry, "t", "job-1")).toBeUndefined();
  expect(await versionOf(registry, "t", "job-2", { member: 0 })).toBeUndefined();
});

describeRedis("with a Redis whose replica is away", () => {
  test("a write that is done, and not confirmed, is done once however often it is tried", async () => {
    const redis = await RedisServer.start();
    // Confirms nothing, as long as nobody is there to confirm it.
    const unsure = await openRedisRegistry(`${redis.url}?wait=1`);
    const sure = await openRedisRegistry(redis.url);
    onTestFinished(async () => {
      await Promise.all([unsure.close(), sure.close()]);
      await redis.remove();
    });
    const task = { id: "t", type: "classification" as const, labels: ["a", "b"], description: "" };
    await sure.createTask(task, hard(null), "ann");
    await putJobs(sure);
    const work = workOf("job-1", unsure);
    const told = { waits: "", told: "" };
    for (const member of [0, 1]) {
      const make = async () => hard({ job: "job-1", member });
      expect((await addOnce(work, { member }, make, told)).version).toBe(member + 2);
    }
    const decision = await found(true, await sure.getTask("t"));
    expect(await activateOnce(workOf("job-2", unsure), decision)).toBe(true);
    expect((await sure.listPrompts("t")).items.map(({ version }) => version)).toEqual([1, 2, 3]);
    const { active_revision } = await sure.getTask("t");
    expect(await store(workOf("job-3", unsure), active_revision, fitted(1.5))).toBe(true);
    const { items } = await sure.listHistory("t");
    expect(items.map(({ by, active }) => [by, active])).toEqual([
      ["job-3", { prompt: 2, temperature: 1.5 }],
      ["job-2", { prompt: 2 }],
      ["ann", { prompt: 1 }],
    ]);
    expect(await store(workOf("job-4", unsure), active_revision, fitted(2))).toBe(false);
  });
});

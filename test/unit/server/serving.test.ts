/** What stays in memory of tasks and prompts, and for whom. */
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, onTestFinished, test, vi } from "vitest";
import { openLmdbRegistry } from "../../../src/registry/lmdb.ts";
import { Serving } from "../../../src/server/serving.ts";
import { hard, newTask } from "../../registry/records.ts";

async function served() {
  const folder = await mkdtemp(join(tmpdir(), "foreword-serving-"));
  const registry = await openLmdbRegistry(folder);
  const serving = new Serving(registry);
  onTestFinished(async () => {
    serving.close();
    await registry.close();
    await rm(folder, { recursive: true, force: true });
  });
  await registry.createTask(newTask("t"), hard(), "ann");
  return { registry, serving };
}

test("a deleted task's prompts stay as long as a request may last, and no longer", async () => {
  const HOUR = 3_600_000;
  vi.useFakeTimers({ toFake: ["setInterval", "clearInterval"] });
  onTestFinished(() => void vi.useRealTimers());
  const { registry, serving } = await served();
  await registry.createTask(newTask("stays"), hard("{{ input }} stays"), "ann");
  const digestOf = async (id: string) => (await serving.prompt(await serving.task(id), 1)).digest;
  const [gone, stays] = [await digestOf("t"), await digestOf("stays")];
  await registry.deleteTask("t");
  await vi.advanceTimersByTimeAsync(HOUR);
  expect(await serving.load(gone)).toMatchObject({ template: expect.any(String) });
  await vi.advanceTimersByTimeAsync(HOUR);
  await vi.waitFor(() => expect(serving.load(gone)).rejects.toThrow("not there any more"));
  expect(await serving.load(stays)).toMatchObject({ template: expect.any(String) });
});

test("whoever still holds a task as it was does not leave its labels to others", async () => {
  const { registry, serving } = await served();
  const labels = async (task: Awaited<ReturnType<typeof serving.task>>) =>
    (await serving.prompt(task, 1)).labels.map(({ label }) => label);
  const before = await serving.task("t");
  await registry.patchTask("t", { labels: ["a", "b", "c"] });
  // A request that was on its way when the labels changed.
  expect(await labels(before)).toEqual(["spam", "not_spam"]);
  expect(await labels(await serving.task("t"))).toEqual(["a", "b", "c"]);
});

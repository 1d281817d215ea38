/** What stays in memory of tasks and prompts, and for whom. */
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, onTestFinished, test } from "vitest";
import { openLmdbRegistry } from "../../../src/registry/lmdb.ts";
import { Serving } from "../../../src/server/serving.ts";
import { hard, newTask } from "../../registry/records.ts";

test("whoever still holds a task as it was does not leave its labels to others", async () => {
  const folder = await mkdtemp(join(tmpdir(), "foreword-serving-"));
  const registry = await openLmdbRegistry(folder);
  const serving = new Serving(registry);
  onTestFinished(async () => {
    serving.close();
    await registry.close();
    await rm(folder, { recursive: true, force: true });
  });
  await registry.createTask(newTask("t"), hard(), "ann");
  const labels = async (task: Awaited<ReturnType<typeof serving.task>>) =>
    (await serving.prompt(task, 1)).labels.map(({ label }) => label);
  const before = await serving.task("t");
  await registry.patchTask("t", { labels: ["a", "b", "c"] });
  // A request that was on its way when the labels changed.
  expect(await labels(before)).toEqual(["spam", "not_spam"]);
  expect(await labels(await serving.task("t"))).toEqual(["a", "b", "c"]);
});

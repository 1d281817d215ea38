/** Versions that a training job starts from, or learns from, and that are deleted while it waits: on a tiny checkpoint. */
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, onTestFinished, test } from "vitest";
import type { PromptRecord } from "../../src/contract/prompt.ts";
import { openLmdbRegistry } from "../../src/registry/lmdb.ts";
import { tinyBackbone } from "../support/tiny.ts";
import { startServer } from "./server.ts";

const labels = ["yes", "no"];
const examples = Array.from({ length: 24 }, (_, index) => ({
  input: `${index % 2 ? "rain" : "sun"} ${index}`,
  label: labels[index % 2]!,
}));

test("a waiting job has what it is to start from, whatever is deleted meanwhile", async () => {
  const data = await mkdtemp(join(tmpdir(), "foreword-start-"));
  const backbone = await tinyBackbone("llama", false);
  const server = await startServer(backbone.path, { data, precision: "fp32" });
  let close = () => server.close();
  onTestFinished(async () => {
    await close();
    await backbone.remove();
    await rm(data, { recursive: true, force: true });
  });
  const training = { examples, steps: 2, batch_size: 4, precision: "fp32" };
  const submit = async (task: string, body: object): Promise<string> => {
    const taken = await server.post(`/tasks/${task}/train`, { ...training, ...body });
    expect(taken.status, JSON.stringify(taken.body)).toBe(202);
    return taken.body.id;
  };
  const versionOf = async (id: string, task: string): Promise<PromptRecord> => {
    const job = await server.ended(id);
    expect(job, JSON.stringify(job.error)).toMatchObject({ state: "succeeded" });
    return (await server.get(`/tasks/${task}/prompts/${job.result.versions.at(-1)}`)).body;
  };
  for (const id of ["given", "taught"])
    await server.task({ id, labels, prompt: { template: "Say {{ input }}\nSo:" } });
  const given = await versionOf(await submit("given", { length: 3, init: "labels" }), "given");
  const teacher = await versionOf(await submit("taught", { length: 2, init: "labels" }), "taught");

  const before = await submit("taught", { steps: 100_000 });
  const init = { prompt: { task: "given", version: given.version } };
  const waiting = [
    await submit("taught", { init }),
    await submit("taught", { init: "donor" }),
    await submit("taught", { ensemble: { members: 2, inits: ["labels", init] } }),
    await submit("taught", { method: "distill", teacher: teacher.version, length: 4 }),
  ];
  for (const { task, version } of [given, teacher])
    expect((await server.call("DELETE", `/tasks/${task}/prompts/${version}`)).status).toBe(204);
  expect((await server.call("DELETE", `/jobs/${before}`)).body.state).toBe("cancelled");
  const made = [];
  for (const id of waiting) made.push(await versionOf(id, "taught"));
  expect(made.map(({ length }) => length)).toEqual([3, 3, 3, 4]);
  for (const { recipe } of made.slice(0, 3)) expect(recipe).toMatchObject({ init });

  await server.close();
  close = async () => {};
  const registry = await openLmdbRegistry(join(data, "registry"));
  const needed = [given, given, given, teacher].map(({ parameters }) => parameters);
  for (const [at, id] of waiting.entries())
    expect((await registry.getJob(id)).blobs, id).toContain(needed[at]);
  await registry.close();
}, 120_000);

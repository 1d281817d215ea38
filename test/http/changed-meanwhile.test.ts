/** What a job was asked for, and finds changed when its turn comes or at its end: it does what is left. On a tiny checkpoint. */
import { afterAll, beforeAll, expect, test, vi } from "vitest";
import { type TinyBackbone, tinyBackbone } from "../support/tiny.ts";
import { expectProblem, startServer, type TestServer } from "./server.ts";

const labels = ["yes", "no"];
const examplesOf = (count: number) =>
  Array.from({ length: count }, (_, index) => ({
    input: `${index % 2 ? "rain" : "sun"} ${index}`,
    label: labels[index % 2]!,
  }));
const examples = examplesOf(24);

let backbone: TinyBackbone;
let server: TestServer;
beforeAll(async () => {
  backbone = await tinyBackbone("llama", false);
  server = await startServer(backbone.path, { precision: "fp32" });
}, 60_000);
afterAll(async () => {
  await server.close();
  await backbone.remove();
});

/** A task of three versions, the last with other fields. */
async function task(id: string): Promise<void> {
  await server.task({ id, labels, prompt: { template: "Say {{ input }}\nSo:" } });
  for (const template of ["Tell {{ input }}\nSo:", "{{ first }} and {{ second }}:"])
    expect((await server.post(`/tasks/${id}/prompts`, { template })).status).toBe(201);
}
const submit = async (path: string, body: object): Promise<string> => {
  const taken = await server.post(path, body);
  expect(taken.status, JSON.stringify(taken.body)).toBe(202);
  return taken.body.id;
};
const linesOf = ({ log }: { log: { text: string }[] }): string[] => log.map(({ text }) => text);

test("an evaluation goes on without the contenders that can't be judged", { timeout: 120_000 }, async () => {
  await task("judged");
  const path = "/tasks/judged/evaluate";
  const refused = await server.post(path, { examples, prompts: [1, 3] });
  expectProblem(refused, 422, "bad_dataset", { line: 1 });
  expect(refused.body.detail).toMatch(/^examples: line 1: prompt 3: .*2 fields/);

  // What a data set holds is looked at in the job.
  const rows = examples.map(each => `${JSON.stringify(each)}\n`).join("");
  const kept = await server.call("POST", "/datasets?id=kept", rows, {
    "content-type": "application/x-ndjson",
  });
  expect(kept.status, JSON.stringify(kept.body)).toBe(201);
  const before = await submit("/tasks/judged/train", { examples, steps: 100_000, batch_size: 4 });
  const two = await submit(path, { dataset: "kept", prompts: [1, 2, 3] });
  const gone = await submit(path, { dataset: "kept", prompts: [2] });
  expect((await server.call("DELETE", "/tasks/judged/prompts/2")).status).toBe(204);
  expect((await server.call("DELETE", `/jobs/${before}`)).status).toBe(200);
  const job = await server.ended(two);
  expect(job, JSON.stringify(job.error)).toMatchObject({ state: "succeeded" });
  expect(job.result.prompts.map(({ name }: { name: string }) => name)).toEqual(["1"]);
  expect(job.result.left_out).toEqual([
    { name: "2", prompt: 2, reason: expect.stringContaining("deleted") },
    { name: "3", prompt: 3, reason: expect.stringMatching(/^examples: line 1: prompt 3: .*2 fields/) },
  ]);
  expect(linesOf(job)).toEqual(
    expect.arrayContaining([2, 3].map(version => expect.stringMatching(`^${version} is left out: `))),
  );
  expect(await server.ended(gone)).toMatchObject({ state: "failed", error: { code: "prompt_not_found" } });
});

test("what is active is a contender as it answers, beside its version", { timeout: 60_000 }, async () => {
  await task("active");
  await server.put("/tasks/active/active", { prompt: 1, bias: { yes: 90, no: -90 } });
  const weighted = (...weights: number[]) => ({ ensemble: [1, 2], vote: "weighted", weights });
  const prompts = ["active", 1, weighted(1, 3), weighted(3, 1)];
  const { result, error } = await server.job("/tasks/active/evaluate", { examples, prompts });
  expect(error).toBeNull();
  expect(result.prompts.map(({ name, prompt }: { name: string; prompt: unknown }) => [name, prompt])).toEqual(
    [
      ["active", 1],
      ["1", 1],
      ["1+2 by weighted 1:3", prompts[2]],
      ["1+2 by weighted 3:1", prompts[3]],
    ],
  );
  const [active] = result.prompts;
  expect(active.confusion.map(({ given }: { given: string }) => given)).toEqual(["yes", "yes"]);
  expect(result.left_out).toEqual([]);
  expectProblem(
    await server.post("/tasks/active/evaluate", { examples, prompts: ["active", "active"] }),
    422,
    "validation",
  );
});

test("a search whose task's labels change keeps and activates nothing that is for others", {
  timeout: 120_000,
}, async () => {
  await task("searched");
  const own = { verbalizers: false, patterns: false, written: 0 };
  const blank = { ...own, examples, budget: 16, candidates: [{ template: "Tell {{ input }}\nSo: " }] };
  const { result } = await server.job("/tasks/searched/search", blank);
  expect(result.table.map(({ template }: { template: string }) => template)).toContain(
    "Tell {{ input }}\nSo:",
  );

  const verbalizers = { yes: " sun", no: " rain" };
  const id = await submit("/tasks/searched/search", {
    ...own,
    examples: examplesOf(2000),
    budget: 4000,
    candidates: [{ name: "mine", template: "Tell {{ input }}\nSo:", verbalizers }],
    keep: 2,
    activate: true,
  });
  await vi.waitFor(
    async () => expect(linesOf((await server.get(`/jobs/${id}`)).body).join()).toContain("racing"),
    { timeout: 60_000, interval: 20 },
  );
  expect((await server.call("PATCH", "/tasks/searched", { labels: ["yes", "never"] })).status).toBe(200);
  const { active, prompts } = (await server.get("/tasks/searched")).body;
  const job = await server.ended(id);
  expect(job, JSON.stringify(job.error)).toMatchObject({ state: "succeeded", result: { activated: false } });
  const mine = job.result.table.find(({ name }: { name: string }) => name === "mine");
  expect(mine).toMatchObject({ verbalizers, version: null });
  expect(linesOf(job)).toContainEqual(
    expect.stringMatching(/^mine is not kept: the task's labels were changed meanwhile.*"no"/),
  );
  expect((await server.get("/tasks/searched")).body).toMatchObject({ active, prompts });
});

test("an ensemble is of the members that are left", { timeout: 120_000 }, async () => {
  await task("voted");
  const id = await submit("/tasks/voted/train", {
    examples,
    steps: 40,
    length: 2,
    batch_size: 4,
    ensemble: 3,
  });
  const newest = async () => (await server.get("/tasks/voted/prompts?limit=1000")).body.items.at(-1);
  await vi.waitFor(async () => expect((await newest()).recipe?.member).toBe(0), {
    timeout: 60_000,
    interval: 20,
  });
  const { version } = await newest();
  expect((await server.call("DELETE", `/tasks/voted/prompts/${version}`)).status).toBe(204);
  const job = await server.ended(id);
  expect(job, JSON.stringify(job.error)).toMatchObject({ state: "succeeded" });
  const { versions, ensemble } = job.result;
  expect(versions).toEqual([version + 1, version + 2]);
  expect(ensemble).toMatchObject({ active: { ensemble: versions } });
  expect(ensemble.members).toHaveLength(2);
  expect(linesOf(job)).toContainEqual(
    `deleted meanwhile: version ${version}; the ensemble is of ${versions.join(", ")}`,
  );
});

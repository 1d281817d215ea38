/** Another backbone under the same registry: what is trained again, what is not and why, on two tiny checkpoints. */
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import type { RetrainReply } from "../../src/contract/retrain.ts";
import type { Active } from "../../src/contract/task.ts";
import type { TrainJobRequest } from "../../src/jobs/train-work.ts";
import { openLmdbRegistry } from "../../src/registry/lmdb.ts";
import type { Registry } from "../../src/registry/registry.ts";
import { foreword } from "../support/command.ts";
import { type TinyBackbone, tinyBackbone } from "../support/tiny.ts";
import { expectProblem, files, startServer, type TestServer } from "./server.ts";

const labels = ["yes", "no"];
const template = "Say {{ input }}\nSo:";
const examples = Array.from({ length: 24 }, (_, index) => ({
  input: `${index % 2 ? "rain" : "sun"} ${index}`,
  label: labels[index % 2]!,
}));
const training = { steps: 2, batch_size: 4, length: 2, precision: "fp32", init: "labels" } as const;

let data: string;
let backbones: TinyBackbone[];
let server: TestServer;
const serve = (at: number) => startServer(backbones[at]!.path, { data, precision: "fp32" });

beforeAll(async () => {
  data = await mkdtemp(join(tmpdir(), "foreword-retrain-"));
  backbones = [await tinyBackbone("llama", false), await tinyBackbone("qwen2", false)];
  server = await serve(0);
  const task = (id: string) => server.task({ id, labels, prompt: { template } });
  for (const id of ["trained", "words", "uploaded", "inline"]) await task(id);
  const lines = examples.map(example => `${JSON.stringify(example)}\n`).join("");
  const sent = await server.post("/datasets?id=days", lines, { "content-type": "application/x-ndjson" });
  expect(sent.status).toBe(201);
  const body = { ...training, dataset: "days", activate: true };
  expect(await server.job("/tasks/trained/train", body)).toMatchObject({ state: "succeeded" });
  await server.upload("uploaded", files.prefix(await server.backbone()), "?activate=true");
  const inline = { ...training, examples: examples.slice(4), activate: true };
  expect(await server.job("/tasks/inline/train", inline)).toMatchObject({ state: "succeeded" });
  await server.close();
  const registry = await openLmdbRegistry(join(data, "registry"));
  await others(registry);
  await leftOpen(registry);
  await registry.close();
  server = await serve(1);
});
afterAll(async () => {
  await server.close();
  for (const backbone of backbones) await backbone.remove();
  await rm(data, { recursive: true, force: true });
});

/** A job that the server of the first backbone did not come to. */
async function leftOpen(registry: Registry): Promise<void> {
  const { items } = await registry.listJobs({ task: "trained" });
  const { revision, created_at, ...job } = items[0]!;
  await registry.putJob({ ...job, id: "job-left", task: "words", ...unstarted });
}
const unstarted = {
  state: "queued",
  result: null,
  started_at: null,
  ended_at: null,
  checkpoint: null,
} as const;

/** Tasks as other requests would have left them: prompts like the trained one, of jobs like its own. */
async function others(registry: Registry): Promise<void> {
  const { task: _, version, created_at, ...prompt } = await registry.getPrompt("trained", 2);
  const {
    revision,
    created_at: made,
    ...job
  } = await registry.getJob((prompt.recipe as { job: string }).job);
  const asked = job.request as TrainJobRequest;
  const like = async (
    id: string,
    change: Partial<TrainJobRequest>,
    members = 1,
    active: Active = { prompt: 2 },
  ) => {
    const first = await registry.getPrompt("words", 1);
    await registry.createTask({ id, type: "classification", labels, description: "" }, first, "ann");
    await registry.putJob({ ...job, id: `job-${id}`, task: id, request: { ...asked, ...change } });
    for (let member = 0; member < members; member++) {
      const of = members > 1 ? { member } : {};
      await registry.addPrompt(id, { ...prompt, recipe: { job: `job-${id}`, ...of } });
    }
    await registry.setActive(id, active, "ann");
  };
  const { settings } = asked;
  const init = { prompt: { task: "trained", version: 2 } };
  await like("seeded", { settings: { ...settings, init } });
  const { length, ...unsized } = settings;
  await like("unsized", { settings: { ...unsized, init } });
  const slots = {
    template: `{{ soft(3) }}${template}`,
    settings: { ...unsized, method: "soft", init },
  } as const;
  await like("slots", slots);
  await like("stacked", { on: { task: "trained", version: 2 }, base: asked.examples });
  await like("taught", { teacher: { version: 2 } });
  await like("long", { settings: { ...settings, length: 1000 } });
  const split = [
    { prompt: 1, weight: 1 },
    { prompt: 2, weight: 1 },
  ];
  await like("split", {}, 1, { split });
  const ensemble = { members: [0, 1, 2].map(seed => ({ ...settings, seed })), vote: "mean" as const };
  await like("voting", { ensemble }, 3, { ensemble: [2, 4], vote: "majority" });
  await like("member", { ensemble }, 3, { prompt: 3 });

  /** With a recipe as a file, or a copy from another task, may bring it. */
  const brought = async (id: string, recipe: unknown) => {
    const first = await registry.getPrompt("words", 1);
    await registry.createTask({ id, type: "classification", labels, description: "" }, first, "ann");
    await registry.addPrompt(id, { ...prompt, recipe }, { activate: { by: "ann" } });
  };
  await registry.putJob({
    ...job,
    id: "job-hint",
    task: "words",
    request: { ...asked, teacher: { version: 1 } },
  });
  await brought("copied", { job: "job-hint" });
  await brought("odd", { job: {} });
  await brought("lone", { job: "job-voting" });
}

const retrain = async (body: object = {}): Promise<RetrainReply> => {
  const answer = await server.post("/retrain", body);
  expect(answer, JSON.stringify(answer.body)).toMatchObject({ status: 202 });
  return answer.body;
};
const reasons = ({ skipped }: RetrainReply) =>
  Object.fromEntries(skipped.map(each => [each.task, each.reason]));

test("a job of the other backbone that was left open fails, and says why", async () => {
  const { state, error } = await server.ended("job-left");
  expect([state, error.code]).toEqual(["failed", "backbone_mismatch"]);
  expect(error.detail).toMatch(/Send it again\.$/);
});

test("a dry run tells which tasks can be trained again, how, and why the others are not", async () => {
  const ensemble = { ensemble: [1, 2] };
  const init = { prompt: { task: "trained", version: 2 } };
  for (const [method, route, body] of [
    ["POST", "infer", { input: "sun" }],
    ["POST", "infer", { input: "sun", prompt: ensemble }],
    ["POST", "infer", { inputs: ["sun", "rain"] }],
    ["PUT", "active", ensemble],
    ["PUT", "active", { prompt: 1, shadow: { prompt: 2, share: 1 } }],
    ["POST", "evaluate", { examples, prompts: [1, 2] }],
    ["POST", "train", { examples, init }],
    ["POST", "train", { examples, method: "distill", teacher: 2 }],
  ] as const)
    expectProblem(await server.call(method, `/tasks/trained/${route}`, body), 409, "backbone_mismatch");
  // Of inputs that share two versions, those are answered that come to the one which can.
  const { results } = await server.infer("split", { inputs: Array(24).fill("sun") });
  const codes = results.map(({ error }: { error?: { code: string } }) => error?.code);
  expect(new Set(codes)).toEqual(new Set([undefined, "backbone_mismatch"]));
  const { items } = (await server.get("/tasks/trained/prompts")).body;
  expect(items.map((prompt: { compatible: boolean }) => prompt.compatible)).toEqual([true, false]);

  const plan = await retrain({ dry_run: true });
  expect(plan.backbone.fingerprint).toBe((await server.backbone()).fingerprint);
  const one = { job: null, activates: true, changed: [] };
  expect(plan.jobs).toEqual([
    { task: "member", versions: [3], ...one },
    { task: "seeded", versions: [2], ...one, changed: ["init"] },
    { task: "slots", versions: [2], ...one, changed: ["init"] },
    { task: "split", versions: [2], ...one, activates: false },
    { task: "trained", versions: [2], ...one },
    { task: "unsized", versions: [2], ...one, changed: ["init", "length"] },
    { task: "voting", versions: [2, 4], ...one },
  ]);
  expect(reasons(plan)).toMatchObject({
    words: "works",
    uploaded: "no_recipe",
    inline: "data_gone",
    stacked: "base_gone",
    taught: "teacher_gone",
    copied: "teacher_gone",
    odd: "no_recipe",
    lone: "no_recipe",
    long: "refused",
  });
  expect(plan.skipped.find(({ task }) => task === "long")!.detail).toMatch(/length.*1000/);
  expect(plan.skipped.every(({ detail }) => /\w{3}.*\.$/s.test(detail))).toBe(true);
  expect((await server.get("/jobs?task=trained")).body.items).toHaveLength(1);
  expectProblem(await server.post("/retrain", { tasks: ["nowhere"] }), 404, "task_not_found");
});

test("the jobs run on the new backbone, and what they made answers", async () => {
  const tasks = ["trained", "voting", "words"];
  const key = { "idempotency-key": "once" };
  const [first, again] = await Promise.all([
    server.post("/retrain", { tasks }, key),
    server.post("/retrain", { tasks }, key),
  ]);
  expect(again.body).toEqual(first.body);
  const reply = first.body as RetrainReply;
  expect(reply.jobs.map(({ task }) => task)).toEqual(["trained", "voting"]);
  expect(reasons(await retrain({ tasks }))).toMatchObject({ words: "works" });
  for (const { job } of reply.jobs) expect(await server.ended(job!)).toMatchObject({ state: "succeeded" });

  expect((await server.infer("trained", { input: "sun" })).prompt).toEqual({ version: 3, kind: "prefix" });
  expect((await server.infer("voting", { input: "sun" })).prompt).toEqual({
    ensemble: [5, 6],
    vote: "majority",
  });
  const seeds = (await server.get("/tasks/voting/prompts")).body.items.slice(-2);
  expect(seeds.map(({ recipe }: { recipe: { seed: number } }) => recipe.seed)).toEqual([0, 2]);
  const { backbone, parent, recipe, length } = (await server.get("/tasks/trained/prompts/3")).body;
  expect(backbone.fingerprint).toBe(reply.backbone.fingerprint);
  expect(parent).toEqual({ task: "trained", version: 2 });
  expect(recipe).toMatchObject({ steps: 2, job: reply.jobs[0]!.job, init: "labels" });
  expect(length).toBe(2);
  expect(reasons(await retrain({ tasks }))).toEqual({ trained: "works", voting: "works", words: "works" });
});

test("a length that was asked for stays where the start can't", async () => {
  const { jobs } = await retrain({ tasks: ["seeded", "slots"] });
  const made = [];
  for (const { task, job } of jobs) {
    const { state, result } = await server.ended(job!);
    expect(state).toBe("succeeded");
    const { recipe, pieces } = (await server.get(`/tasks/${task}/prompts/${result.versions[0]}`)).body;
    made.push([task, recipe.init, pieces[0]]);
  }
  expect(made).toEqual([
    ["seeded", "examples", { prefix: training.length, trained: true }],
    ["slots", "examples", { soft: 3, trained: true }],
  ]);
});

test("by command, without letting it answer", async () => {
  const run = (...args: string[]) => foreword(["retrain", ...args, "--server", server.url]);
  const dry = await run("split", "inline", "--dry-run");
  expect(dry.out).toMatch(/^1 to train, 1 left as they are\n/);
  expect(dry.out).toMatch(/^split +2 +\(dry run\)$/m);
  expect(dry.out).toMatch(/^inline +data_gone +The examples of version 2/m);
  const { jobs } = JSON.parse((await run("member", "--no-activate", "--json")).out) as RetrainReply;
  expect(jobs).toMatchObject([{ task: "member", versions: [3], activates: false }]);
  expect(reasons(await retrain({ tasks: ["member"] }))).toEqual({ member: "under_way" });
  const { result } = await server.ended(jobs[0]!.job!);
  expect(result).toMatchObject({ versions: [5], activated: false });
  expectProblem(await server.post("/tasks/member/infer", { input: "sun" }), 409, "backbone_mismatch");
});

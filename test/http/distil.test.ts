/** Context distillation over HTTP. */
import { afterAll, beforeAll, describe, expect, test, vi } from "vitest";
import { readPromptFile } from "../../src/prompt/file.ts";
import { describeBackbone } from "../support/backbone.ts";
import { trainers } from "../support/children.ts";
import { reviewsOf } from "../support/reviews.ts";
import { describeShallow } from "../support/shallow.ts";
import { expectProblem, startServer, type TestServer } from "./server.ts";

const inputs = reviewsOf(["film", "story", "play", "comedy", "book", "show"]).map(({ input }) => input);
const shots = [
  ["What a waste of time.", "negative"],
  ["I loved every minute.", "positive"],
  ["The plot makes no sense at all.", "negative"],
  ["Beautifully acted, and very funny.", "positive"],
  ["Nobody in it can act.", "negative"],
  ["One of the year's best.", "positive"],
].map(([review, label]) => `Review: ${review}\nSentiment: ${label}\n\n`);

/** A server with a task of a plain and a long prompt. */
async function started(backbone: string) {
  const server = await startServer(backbone, { trainThreads: 2 });
  await server.task({
    id: "review",
    type: "classification",
    labels: ["positive", "negative"],
    prompt: { template: "Review: {{ input }}\nSentiment:" },
  });
  await server.post("/tasks/review/prompts", {
    template: `${shots.join("")}Review: {{ input }}\nSentiment:`,
  });
  return server;
}
const distil = (server: TestServer, task: string, body: object) =>
  server.job(`/tasks/${task}/train`, { method: "distill", ...body }, 220_000);

describeBackbone("a distillation", backbone => {
  let server: TestServer;
  beforeAll(async () => {
    server = await started(backbone);
    await server.task({
      id: "echo",
      type: "generation",
      prompt: {
        template: "<|im_start|>user\nSay this again: {{ input }}<|im_end|>\n<|im_start|>assistant\n",
      },
    });
  });
  afterAll(() => server.close());

  test("a short prefix comes to answer as a long hard prompt does, from inputs alone", async () => {
    const job = await distil(server, "review", {
      teacher: 2,
      inputs,
      length: 8,
      steps: 60,
      validation: 0.25,
      seed: 1,
    });
    expect(job, JSON.stringify(job.error)).toMatchObject({ state: "succeeded" });
    const { versions, distillation, activated } = job.result;
    const prompt = (await server.get(`/tasks/review/prompts/${versions[0]}`)).body;
    const teacher = (await server.get("/tasks/review/prompts/2")).body;
    expect(prompt).toMatchObject({ kind: "prefix", length: 8, parent: { task: "review", version: 2 } });
    expect(distillation).toMatchObject({
      teacher_length: teacher.length,
      length: 8,
      tokens_saved: teacher.length - 8,
      speed: expect.any(Number),
    });
    expect(activated).toBe(false);
    const answers = async (version: number) =>
      (await server.infer("review", { inputs, prompt: version, scores: "all" })).results as {
        label: string;
        scores: Record<string, number>;
      }[];
    const [mine, theirs, plain] = [await answers(versions[0]), await answers(2), await answers(1)];
    const share = (given: typeof mine) =>
      given.filter(({ label }, i) => label === theirs[i]!.label).length / inputs.length;
    const apart = (given: typeof mine) =>
      given.reduce(
        (sum, { scores }, i) => sum + Math.abs(scores.positive! - theirs[i]!.scores.positive!),
        0,
      ) / inputs.length;
    expect(share(mine)).toBeGreaterThan(0.9);
    expect(share(mine)).toBeGreaterThan(share(plain));
    // Not the labels alone: the probabilities too.
    expect(apart(mine)).toBeLessThan(apart(plain) / 2);
    expect(Math.abs(distillation.agreement - share(mine))).toBeLessThan(0.15);
  });

  test("a text before the task's own words teaches too; texts are learnt as the teacher writes them", async () => {
    const text = "Everything is said again in the very same words, and nothing else.";
    const job = await distil(server, "echo", {
      teacher: { text },
      inputs: inputs.slice(0, 12),
      steps: 4,
      length: 6,
    });
    expect(job, JSON.stringify(job.error)).toMatchObject({ state: "succeeded" });
    expect(job.result.distillation).toMatchObject({ agreement: null, length: 6 });
    const { recipe, metrics } = (await server.get(`/tasks/echo/prompts/${job.result.versions[0]}`)).body;
    expect(recipe.template).toBe(
      `${text}\n\n<|im_start|>user\nSay this again: {{ input }}<|im_end|>\n<|im_start|>assistant\n`,
    );
    expect(metrics.distillation).toEqual(job.result.distillation);
  });
});

describeShallow("distillation over HTTP", backbone => {
  let server: TestServer;
  beforeAll(async () => {
    server = await started(backbone);
    await server.task({ id: "endless", type: "generation", prompt: { template: "{{ input }} And then" } });
  });
  afterAll(() => server.close());

  const train = (task: string, body: object) =>
    server.post(`/tasks/${task}/train`, { method: "distill", ...body });
  const ended = (task: string, body: object) => distil(server, task, body);

  test("what is active teaches with the biases that it answers with", async () => {
    const said = (results: { label: string }[]) => new Set(results.map(({ label }) => label));
    await server.put("/tasks/review/active", { prompt: 1, bias: { negative: 30 } });
    const biased = (await server.infer("review", { inputs })).results;
    expect([...said(biased)]).toEqual(["negative"]);
    const job = await ended("review", { inputs, length: 4, steps: 30, seed: 3 });
    expect(job, JSON.stringify(job.error)).toMatchObject({ state: "succeeded" });
    const { versions, distillation } = job.result;
    expect(distillation.agreement).toBe(1);
    expect([...said((await server.infer("review", { inputs, prompt: versions[0] })).results)]).toEqual([
      "negative",
    ]);
    await server.put("/tasks/review/active", { prompt: 1 });
  });

  test("a killed distillation asks its teacher once, and ends in the same bits", async () => {
    const body = { teacher: 2, inputs: inputs.slice(0, 40), length: 4, steps: 60, seed: 2 };
    const whole = await ended("review", body);
    const { id } = (await train("review", body)).body;
    await vi.waitFor(
      async () => {
        const { progress } = (await server.get(`/jobs/${id}`)).body;
        // Of training: while the teacher answers there is no loss.
        expect(progress?.loss).toEqual(expect.any(Number));
        expect(progress.step).toBeGreaterThan(2);
      },
      { timeout: 60_000, interval: 50 },
    );
    const pids = await trainers();
    expect(pids).toHaveLength(1);
    process.kill(pids[0]!, "SIGKILL");
    const job = await server.ended(id);
    expect(job, JSON.stringify(job.error)).toMatchObject({ state: "succeeded" });
    const lines = job.log.map(({ text }: { text: string }) => text);
    const said = (what: string) => lines.filter((line: string) => line.startsWith(what));
    expect(said("the teacher answers")).toHaveLength(1);
    expect(said("training 4 positions")).toHaveLength(2);
    const parameters = async (version: number) => {
      const file = await fetch(`${server.url}/tasks/review/prompts/${version}?format=safetensors`);
      const { prefix } = readPromptFile(new Uint8Array(await file.arrayBuffer()));
      return [prefix!.key, prefix!.value].map(({ buffer }) => Buffer.from(buffer).toString("base64"));
    };
    expect(await parameters(job.result.versions[0])).toEqual(await parameters(whole.result.versions[0]));
  });

  test("a teacher that comes to no end in time is told of", async () => {
    const job = await ended("endless", { inputs: inputs.slice(0, 6), steps: 2 });
    expect(job).toMatchObject({ state: "failed", error: { code: "bad_dataset", field: "teacher" } });
  });

  describe("what cannot be distilled", () => {
    test.each<[string, object, number, string]>([
      ["no inputs", { teacher: 2 }, 422, "validation"],
      ["a version that is not there", { teacher: 99, inputs }, 404, "prompt_not_found"],
      ["a text with fields", { teacher: { text: "x {{ y }}" }, inputs }, 422, "validation"],
      [
        "a teacher longer than the context",
        { teacher: { text: "word ".repeat(9000) }, inputs },
        422,
        "input_too_long",
      ],
      ["only if better", { teacher: 2, inputs, activate: "if_better" }, 422, "validation"],
      ["words of its own", { teacher: 2, inputs, template: "{{ input }}:" }, 422, "validation"],
      ["inputs and a data set", { teacher: 2, inputs, dataset: "x" }, 422, "validation"],
      ["an ensemble", { teacher: 2, inputs, ensemble: 3 }, 422, "validation"],
      ["a teacher of what is trained", { method: "prefix", teacher: 2, inputs }, 422, "validation"],
    ])("%s", async (_, body, status, code) => {
      expectProblem(await train("review", body), status, code);
    });
  });
});

/** Evaluation over HTTP, in a process of its own: the report says what callers are answered. */
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { EvaluationReport } from "../../src/contract/evaluate.ts";
import { describeBackbone } from "../support/backbone.ts";
import { describeShallow } from "../support/shallow.ts";
import { expectProblem, startServer, type TestServer } from "./server.ts";

const labels = ["positive", "negative"];
const reviews = [
  ["A warm and funny film.", "positive"],
  ["Dull from start to end.", "negative"],
  ["I laughed, I cried, I want to see it again.", "positive"],
  ["The plot makes no sense.", "negative"],
  ["Beautifully acted.", "positive"],
  ["A waste of two hours.", "negative"],
  ["一部温暖的电影。", "positive"],
  ["Nobody in it can act.", "negative"],
  ["Not bad, not bad at all.", "positive"],
].map(([input, label]) => ({ input: input!, label: label! }));

const asked = "<|im_start|>user\nWrite a line: {{ input }}<|im_end|>\n<|im_start|>assistant\n";

const evaluate = (server: TestServer, task: string, body: object) =>
  server.job(`/tasks/${task}/evaluate`, body);
async function reportOf(
  server: TestServer,
  task: string,
  body: object,
): Promise<EvaluationReport & { stored: boolean }> {
  const job = await evaluate(server, task, body);
  expect(job, JSON.stringify(job.error)).toMatchObject({ kind: "evaluate", state: "succeeded" });
  return job.result;
}

describeShallow("evaluation over HTTP", backbone => {
  let server: TestServer;
  beforeAll(async () => {
    server = await startServer(backbone, { trainThreads: 2 });
    await server.task({
      id: "review",
      type: "classification",
      labels,
      prompt: { kind: "hard", template: "Review: {{ input }}\nSentiment:" },
    });
    // These layers answer "negative" behind the first, and mostly "positive" behind this one.
    const second = { kind: "hard", template: "Good or bad? {{ input }}\nAnswer:" };
    expect((await server.post("/tasks/review/prompts", second)).status).toBe(201);
    await server.task({ id: "poem", type: "generation" });
  });
  afterAll(() => server.close());

  const answers = async (prompt: unknown) =>
    (await server.infer("review", { inputs: reviews.map(({ input }) => input), prompt, scores: "all" }))
      .results;

  test("prompts and an ensemble on the same examples: what callers get, compared", async () => {
    const ensemble = { ensemble: [1, 2], vote: "mean" };
    const report = await reportOf(server, "review", { examples: reviews, prompts: [1, 2, ensemble] });
    expect(report.examples).toBe(9);
    expect(report.prompts.map(({ name }) => name)).toEqual(["1", "2", "1+2 by mean"]);
    for (const one of report.prompts) {
      if (!("accuracy" in one)) throw new Error("it is a classifier");
      const given = await answers(one.prompt);
      const right = given.filter(({ label }: { label: string }, i: number) => label === reviews[i]!.label);
      expect(one.accuracy.value).toBeCloseTo(right.length / 9, 10);
      const loss = given.map(
        ({ scores }: { scores: Record<string, number> }, i: number) => -Math.log(scores[reviews[i]!.label]!),
      );
      expect(one.log_loss).toBeCloseTo(loss.reduce((a: number, b: number) => a + b) / 9, 4);
      expect(one.confusion.reduce((sum, { examples }) => sum + examples, 0)).toBe(9);
      expect("agreement" in one).toBe(typeof one.prompt === "object");
    }
    expect(report.comparisons.map(({ first, second }) => `${second}-${first}`)).toEqual([
      "2-1",
      "1+2 by mean-1",
      "1+2 by mean-2",
    ]);
    const [one, two] = [await answers(1), await answers(2)];
    const differing = reviews.flatMap((_, i) => (one[i].label === two[i].label ? [] : [i + 1]));
    expect(differing.length).toBeGreaterThan(0);
    expect(report.differences.map(({ line }) => line)).toEqual(differing);
    expect(report.differing).toBe(differing.length);
    for (const { line, given, input } of report.differences) {
      expect(input).toBe(reviews[line - 1]!.input);
      expect([given["1"], given["2"]]).toEqual([one[line - 1].label, two[line - 1].label]);
    }
  });

  test("a weighted vote that comes without weights gets those that fit", async () => {
    const prompts = [1, 2, { ensemble: [1, 2], vote: "weighted" }];
    const [one, two, both] = (await reportOf(server, "review", { examples: reviews, prompts })).prompts;
    if (!(one && two && both && "log_loss" in one && "log_loss" in two && "weights" in both))
      throw new Error("they are classifiers");
    expect(both.weights!.reduce((a, b) => a + b)).toBeCloseTo(1, 8);
    const better = one.log_loss < two.log_loss ? 0 : 1;
    expect(both.weights![better]).toBeGreaterThan(0.5);
  });

  test("of one prompt the mistakes are listed; a temperature is fitted, stored and used", async () => {
    // Ten times too sure of itself.
    const sure = { prompt: 1, temperature: 0.1 };
    expect((await server.put("/tasks/review/active", sure)).status).toBe(200);
    const report = await reportOf(server, "review", { examples: reviews, calibrate: "store" });
    const [one] = report.prompts;
    if (!one || !("accuracy" in one)) throw new Error("it is a classifier");
    expect(report.differing).toBe(Math.round(9 * (1 - one.accuracy.value)));
    expect(report.differing).toBeGreaterThan(0);
    for (const { wanted, given } of report.differences) expect(Object.values(given)).not.toEqual(wanted);
    const { temperature } = one.calibration!;
    expect(report.stored).toBe(true);
    const { body } = await server.get("/tasks/review/active");
    expect(body.active).toEqual({ prompt: 1, temperature });
    const { items } = (await server.get("/tasks/review/history")).body;
    expect(items[0].by).toMatch(/^job-/);
    // Fitted once, there is nothing left to fit.
    const again = (await reportOf(server, "review", { examples: reviews, calibrate: true })).prompts[0]!;
    if (!("calibration" in again)) throw new Error("it was calibrated");
    expect(again.calibration!.temperature / temperature).toBeCloseTo(1, 1);
    expect(again.log_loss).toBeLessThanOrEqual(one.log_loss + 1e-6);
  });

  describe("what cannot be evaluated", () => {
    const examples = reviews;
    test.each<[string, string, object, number, string]>([
      ["no data", "review", {}, 422, "validation"],
      ["an empty list", "review", { examples: [] }, 422, "validation"],
      ["both kinds of data", "review", { examples, dataset: "x" }, 422, "validation"],
      ["an unknown label", "review", { examples: [{ input: "x", label: "odd" }] }, 422, "bad_dataset"],
      ["examples without labels", "review", { examples: [{ input: "x", output: "y" }] }, 422, "bad_dataset"],
      ["a version that is not there", "review", { examples, prompts: [9] }, 404, "prompt_not_found"],
      ["the same prompt twice", "review", { examples, prompts: [1, 1] }, 422, "validation"],
      [
        "a weight too many",
        "review",
        { examples, prompts: [{ ensemble: [1, 2], vote: "weighted", weights: [1, 2, 3] }] },
        422,
        "validation",
      ],
      [
        "storing what is not active",
        "review",
        { examples, prompts: [1], calibrate: "store" },
        422,
        "validation",
      ],
      [
        "calibrating texts",
        "poem",
        { examples: [{ input: "x", output: "y" }], calibrate: true },
        422,
        "validation",
      ],
      [
        "an ensemble that writes",
        "poem",
        { examples: [{ input: "x", output: "y" }], prompts: [{ ensemble: [1, 2] }] },
        422,
        "validation",
      ],
      ["a task that is not there", "nothing", { examples }, 404, "task_not_found"],
    ])("%s", async (_, task, body, status, code) => {
      expectProblem(await server.post(`/tasks/${task}/evaluate`, body), status, code);
    });

    test("storing one temperature for all parts of a split; one of them is evaluated by its number", async () => {
      const parts = [1, 2].map(prompt => ({ prompt, weight: 1 }));
      const { active } = (await server.get("/tasks/review/active")).body;
      const split = await server.put("/tasks/review/active", { split: parts });
      expect(split.status, JSON.stringify(split.body)).toBe(200);
      const refused = await server.post("/tasks/review/evaluate", { examples, calibrate: "store" });
      expectProblem(refused, 422, "validation");
      expect(refused.body).toMatchObject({
        field: "calibrate",
        detail: expect.stringMatching(/split.*prompts/),
      });
      const { prompts } = await reportOf(server, "review", { examples, prompts: [1], calibrate: true });
      expect(prompts[0]).toHaveProperty("calibration");
      expect((await server.get("/tasks/review/active")).body.active).toEqual({ split: parts });
      expect((await server.put("/tasks/review/active", active)).status).toBe(200);
    });

    test("an input that is too long is named by its line", async () => {
      const long = { input: "word ".repeat(9000), label: "positive" };
      const job = await evaluate(server, "review", { examples: [...reviews, long] });
      expect(job.state).toBe("failed");
      expect(job.error).toMatchObject({
        code: "input_too_long",
        detail: expect.stringMatching(/line 10[:,] /),
      });
    });
  });
});

describeBackbone("an evaluation of texts", backbone => {
  let server: TestServer;
  beforeAll(async () => {
    server = await startServer(backbone, { trainThreads: 2 });
    await server.task({ id: "poem", type: "generation", prompt: { kind: "hard", template: asked } });
    await server.task({
      id: "written",
      type: "generation",
      prompt: { kind: "hard", template: `${asked}{{ output }}` },
    });
  });
  afterAll(() => server.close());

  test("texts are judged against all references of an input", async () => {
    const examples = [
      { input: "sun", output: "The sun is old." },
      { input: "sun", output: "It shines." },
      { input: "moon", output: "The moon is cold." },
    ];
    const report = await reportOf(server, "poem", { examples, max_tokens: 12 });
    const [one] = report.prompts;
    if (!one || !("bleu" in one)) throw new Error("it writes");
    expect(one).toMatchObject({ references: 3, exact_match: { value: 0 } });
    let nats = 0;
    let tokens = 0;
    for (const { input, output } of examples) {
      const found: { logprob: number; tokens: number }[] = [];
      for (const spelt of [output, ` ${output}`]) {
        const { targets } = await server.infer("poem", { input, targets: [spelt], max_tokens: 1 });
        // An answer ends with EOS: how probable that is behind the reference, which stands in the prompt here.
        const { logprobs } = await server.infer("written", {
          input: { input, output: spelt },
          choices: ["!"],
          logprobs: 20,
        });
        const end = logprobs[0].top.find(({ token }: { token: string }) => token === "<|im_end|>");
        found.push({ logprob: targets[0].logprob + end.logprob, tokens: targets[0].tokens + 1 });
      }
      // With a space before it, as a prompt may write it behind "Output:", it is the same text.
      const [a, b] = found as [(typeof found)[0], (typeof found)[0]];
      nats -= Math.log(Math.exp(a.logprob) + Math.exp(b.logprob));
      tokens += (b.logprob > a.logprob ? b : a).tokens;
    }
    // Words are a branch behind the input here and in its run there: int8 tells the two apart.
    expect(Math.abs(Math.log(one.perplexity) - nats / tokens)).toBeLessThan(0.02);
    const { text } = await server.infer("poem", { input: "sun", max_tokens: 12 });
    expect(report.differences.find(({ line }) => line === 1)).toMatchObject({
      wanted: ["The sun is old.", "It shines."],
      given: { "1": text!.trim() },
    });
  });
});

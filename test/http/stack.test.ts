/** Prompts stacked on one another over HTTP: registered, shown, trained, downloaded, outliving what they stand on. */
import { afterAll, beforeAll, expect, test } from "vitest";
import type { Ranked } from "../../src/contract/search.ts";
import { readPromptFile } from "../../src/prompt/file.ts";
import { reviewsOf } from "../support/reviews.ts";
import { describeShallow } from "../support/shallow.ts";
import { expectProblem, files, promptFile, startServer, type TestServer } from "./server.ts";

const system = "You are the editor of a magazine, who reads what people write of films.\n";
const examples = reviewsOf(["film", "story", "play", "comedy"]);

describeShallow("stacked prompts over HTTP", backbone => {
  let server: TestServer;
  beforeAll(async () => {
    server = await startServer(backbone, { trainThreads: 2 });
    await server.task({ id: "shared", type: "generation", prompt: { template: `${system}{{ input }}` } });
    await server.task({
      id: "review",
      type: "classification",
      labels: ["positive", "negative"],
      prompt: { template: "Review: {{ input }}\nSentiment:" },
    });
  });
  afterAll(() => server.close());

  const on = { task: "shared", version: 1 };
  const add = (body: object) => server.post("/tasks/review/prompts", body);
  const scores = async (prompt: number, task = "review") =>
    (await server.infer(task, { input: "It is a warm film.", prompt, scores: "all" })).scores as Record<
      string,
      number
    >;

  test("words on another task's words: shown as frozen, answered as one text, kept when the other is gone", async () => {
    const { status, body } = await add({ template: "Review: {{ input }}\nSentiment:", on });
    expect(status).toBe(201);
    expect(body).toMatchObject({ kind: "hard", on, bytes: 0, compatible: true });
    expect(body.pieces[0]).toEqual({ text: system, frozen: true });
    expect(body.pieces[1]).toEqual({ text: "Review: ", frozen: true });
    const whole = await add({ template: `${system}Review: {{ input }}\nSentiment:` });
    expect(body.length).toBe(whole.body.length);
    const [a, b] = [await scores(body.version), await scores(whole.body.version)];
    for (const [label, probability] of Object.entries(a)) expect(probability).toBeCloseTo(b[label]!, 3);

    await server.task({ id: "brief", type: "generation", prompt: { template: `${system}{{ input }}` } });
    const other = await add({
      template: "Review: {{ input }}\nSentiment:",
      on: { task: "brief", version: 1 },
    });
    const before = await scores(other.body.version);
    await server.call("DELETE", "/tasks/brief");
    expect(await scores(other.body.version)).toEqual(before);
  });

  test("texts of its own for labels are in the file that is downloaded, and answer alike", async () => {
    const verbalizers = { positive: [" warm"], negative: [" cold"] };
    const words = "Review: {{ input }}\nSentiment:";
    const made = await add({ template: words, verbalizers, on });
    const copied = await add({ from: { task: "review", version: made.body.version }, name: "copied" });
    expect(copied.body.verbalizers).toEqual(verbalizers);
    for (const { version } of [made.body, copied.body]) {
      const file = await fetch(`${server.url}/tasks/review/prompts/${version}?format=safetensors`);
      const again = await server.upload("review", new Uint8Array(await file.arrayBuffer()));
      expect(again.body).toMatchObject({ verbalizers });
      expect(await scores(again.body.version)).toEqual(await scores(version));
    }
  });

  test("a trained prompt is copied onto another one, downloaded and uploaded as one file", async () => {
    const report = await server.backbone();
    const uploaded = await server.post("/tasks/review/prompts", files.prefix(report), {
      "content-type": promptFile,
    });
    const from = { task: "review", version: uploaded.body.version };
    const { body } = await add({ from, on, name: "stacked" });
    expect(body).toMatchObject({ kind: "prefix", name: "stacked", on, parent: from });
    expect(body.pieces.slice(0, 2)).toEqual([
      { text: system, frozen: true },
      { prefix: 4, trained: true },
    ]);
    expect(body.length).toBeGreaterThan(uploaded.body.length);

    const third = await add({
      template: "So: {{ input }}\nSentiment:",
      on: { task: "review", version: body.version },
    });
    expect(third.body.pieces.slice(0, 3)).toEqual([
      { text: system, frozen: true },
      { prefix: 4, frozen: true },
      { text: "Review: ", frozen: true },
    ]);
    const url = `${server.url}/tasks/review/prompts/${third.body.version}?format=safetensors`;
    const bytes = new Uint8Array(await (await fetch(url)).arrayBuffer());
    expect(readPromptFile(bytes).bases).toHaveLength(2);
    const again = await server.post("/tasks/review/prompts", bytes, { "content-type": promptFile });
    expect(again.body).toMatchObject({ kind: "hard", length: third.body.length });
    expect(await scores(again.body.version)).toEqual(await scores(third.body.version));
  });

  const template = "Review: {{ input }}\nSentiment:";
  const trained = async (body: object) => {
    const job = await server.job("/tasks/review/train", { examples, validation: 0.25, seed: 1, ...body });
    expect(job, JSON.stringify(job.error)).toMatchObject({ state: "succeeded" });
    const [version] = job.result.versions;
    return { job, version, prompt: (await server.get(`/tasks/review/prompts/${version}`)).body };
  };

  test.each(["prefix", "soft"])(
    "a %s learns on top of another prompt, which stays as it is",
    async method => {
      const { job, version, prompt } = await trained({ method, template, on, length: 8, steps: 160 });
      expect(prompt).toMatchObject({ kind: method, on });
      expect(prompt.pieces.slice(0, 2)).toEqual([
        { text: system, frozen: true },
        { [method]: 8, trained: true },
      ]);
      // What the job says of validation is what is served.
      const inputs = examples.map(({ input }) => input);
      const { results } = await server.infer("review", { inputs, prompt: version });
      const right = results.filter(
        ({ label }: { label: string }, at: number) => label === examples[at]!.label,
      );
      expect(right.length / examples.length).toBeGreaterThan(0.9);
      expect(job.result.validation.new).toBeGreaterThan(0.85);
      await server.put("/tasks/review/active", { prompt: version });
    },
  );

  test("what a prompt stands on is inherited by those that start from it, unless that is not wanted", async () => {
    const { body } = await server.get("/tasks/review");
    const { prompt: version } = body.active;
    const inherited = await trained({ length: 4, steps: 1 });
    expect(inherited.prompt).toMatchObject({ on, parent: { version } });
    expect(inherited.prompt.pieces.slice(0, 2)).toEqual([
      { text: system, frozen: true },
      { prefix: 4, trained: true },
    ]);
    const alone = await trained({ on: null, init: { prompt: { task: "review", version } }, steps: 1 });
    expect(alone.prompt.on ?? null).toBeNull();
    // The other prompt's whole beginning is where it starts.
    expect(alone.prompt.pieces[0].prefix).toBeGreaterThan(8);
  });

  test("a search's candidates stand on what the active prompt stands on, and so does what it keeps", async () => {
    await server.task({
      id: "searched",
      type: "classification",
      labels: ["positive", "negative"],
      prompt: { template },
    });
    const stacked = await server.post("/tasks/searched/prompts?activate=true", { template, on });
    const mine = "{{ input }} All in all, this review is";
    const job = await server.job("/tasks/searched/search", {
      examples,
      validation: 0.2,
      candidates: [{ name: "mine", template: mine }],
      patterns: false,
      written: 0,
      budget: 200,
      keep: 8,
    });
    expect(job, JSON.stringify(job.error)).toMatchObject({ state: "succeeded" });
    const { table, versions } = job.result as { table: Ranked[]; versions: number[] };
    expect(table.map(({ source }) => source)).toEqual(expect.arrayContaining(["active", "caller"]));
    const byName = (name: string) => table.find(each => each.name === name)!;
    expect(byName("active")).toMatchObject({ template, length: stacked.body.length });
    for (const version of versions) {
      const { body } = await server.get(`/tasks/searched/prompts/${version}`);
      expect(body).toMatchObject({ kind: "hard", on, bytes: 0 });
      expect(body.pieces[0].text.startsWith(system)).toBe(true);
      expect(table.find(ranked => ranked.version === version)!.length).toBe(body.length);
    }
    const kept = byName("mine").version!;
    const byHand = await server.post("/tasks/searched/prompts", { template: mine, on });
    expect(await scores(kept, "searched")).toEqual(await scores(byHand.body.version, "searched"));
    expect(byName("mine").length).toBe(byHand.body.length);
  });

  test("what can't be stacked on is refused in words", async () => {
    await server.task({ id: "bare", type: "generation", prompt: { template: "{{ input }}" } });
    const field = { field: "on" };
    expectProblem(await add({ template, on: { task: "bare", version: 1 } }), 422, "validation", field);
    expectProblem(await add({ template, on: { task: "bare", version: 9 } }), 404, "prompt_not_found");
    expectProblem(await add({ template, on: { task: "none", version: 1 } }), 404, "task_not_found");
    expectProblem(await add({ template, on: 3 }), 422, "validation", field);
    const stack = { task: "bare", version: 1 };
    for (let height = 1; height <= 9; height++) {
      const below = height === 1 ? {} : { on: { ...stack } };
      const { status, body } = await server.post("/tasks/bare/prompts", {
        template: `${height}. {{ input }}`,
        ...below,
      });
      expect(status, JSON.stringify(body)).toBe(201);
      stack.version = body.version;
    }
    expectProblem(await add({ template, on: stack }), 422, "validation", field);
    const long = await server.post("/tasks/bare/prompts", { template: `${"word ".repeat(1500)}{{ input }}` });
    const high = { task: "bare", version: long.body.version };
    const twice = await server.post("/tasks/bare/prompts", {
      template: `${"word ".repeat(1500)}{{ input }}`,
      on: high,
    });
    expect(twice.status).toBe(201);
    const thrice = await server.call("POST", "/tasks/bare/prompts", {
      template: `${"word ".repeat(6000)}{{ input }}`,
      on: { task: "bare", version: twice.body.version },
    });
    expectProblem(thrice, 422, "input_too_long", { over: expect.any(Number) });
    const train = { examples, on: { task: "bare", version: long.body.version }, length: 1024, steps: 1 };
    expect((await server.post("/tasks/review/train", train)).status).toBe(202);
    const full = { ...train, on: { task: "bare", version: 99 } };
    expectProblem(await server.post("/tasks/review/train", full), 404, "prompt_not_found");
  });
});

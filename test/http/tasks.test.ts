import { afterAll, beforeAll, expect, test } from "vitest";
import { describeBackbone } from "../support/backbone.ts";
import { expectProblem, startServer, type TestServer } from "./server.ts";

describeBackbone("tasks over HTTP", path => {
  let server: TestServer;
  beforeAll(async () => {
    server = await startServer(path);
  });
  afterAll(() => server.close());

  test("the bundled library is there, each task with an active prompt", async () => {
    const { body } = await server.get("/tasks");
    expect(body.items.map((task: { id: string }) => task.id)).toEqual([
      "banking-intent",
      "data-to-text",
      "question-type",
      "sentiment",
      "spam",
    ]);
    // Which one: library.test.ts
    for (const { active, prompts } of body.items) expect(active).toMatchObject({ prompt: prompts });
  });

  test("register, show, change, delete", async () => {
    const made = await server.post("/tasks", {
      id: "mood",
      labels: ["good", "bad"],
      description: "How it is",
    });
    expect(made.status).toBe(201);
    expect(made.headers.get("location")).toBe("/tasks/mood");
    expect(made.body).toMatchObject({
      id: "mood",
      type: "classification",
      labels: ["good", "bad"],
      active: { prompt: 1 },
      prompts: 1,
      revision: 1,
      reason: expect.stringContaining("labels"),
    });
    expect((await server.get("/tasks/mood/prompts/1")).body.template).toBe("Text: {{ input }}\nLabel:");
    const etag = (await server.get("/tasks/mood")).headers.get("etag")!;
    const changed = await server.call("PATCH", "/tasks/mood", { description: "Mood" }, { "if-match": etag });
    expect(changed.body).toMatchObject({ description: "Mood" });
    const stale = await server.call("PATCH", "/tasks/mood", { description: "x" }, { "if-match": etag });
    expectProblem(stale, 412, "revision_conflict");
    expectProblem(
      await server.call("PATCH", "/tasks/mood", { description: "x" }, { "if-match": "seven" }),
      422,
      "validation",
      { field: "If-Match" },
    );
    await server.call("PUT", "/tasks/mood/active", { prompt: 1, bias: { good: 1 } });
    expectProblem(await server.call("PATCH", "/tasks/mood", { labels: ["fine", "bad"] }), 422, "validation", {
      field: "labels",
      detail: expect.stringMatching(/bias for good.*PUT \/tasks\/mood\/active/),
    });
    expect((await server.call("PATCH", "/tasks/mood", { labels: ["good", "awful"] })).status).toBe(200);
    expect((await server.call("DELETE", "/tasks/mood")).status).toBe(204);
    expectProblem(await server.get("/tasks/mood"), 404, "task_not_found");
    expectProblem(await server.post("/tasks/mood/infer", { input: "x" }), 404, "task_not_found");
  });

  test("a blank that ends a template is each label's own, where labels are names alone", async () => {
    const template = "Text: {{ input }}\nLabel: ";
    await server.task({ id: "blank", labels: ["x", "y"], prompt: { template } });
    await server.post("/tasks/blank/prompts", { template: "{{ input }} \t" });
    await server.task({ id: "spelt", labels: { x: "x", y: "y" }, prompt: { template } });
    const kept = async (path: string) => (await server.get(`/tasks/${path}`)).body.template;
    expect(await kept("blank/prompts/1")).toBe("Text: {{ input }}\nLabel:");
    expect(await kept("blank/prompts/2")).toBe("{{ input }}");
    expect(await kept("spelt/prompts/1")).toBe(template);
  });

  test("type and labels follow from examples, with the reason", async () => {
    const labelled = await server.post("/tasks", {
      id: "inferred",
      examples: [
        { input: "a", label: "x" },
        { input: "b", label: "y" },
        { input: "c", label: "x" },
      ],
    });
    expect(labelled.body).toMatchObject({ type: "classification", labels: ["x", "y"] });
    expect(labelled.body.reason).toContain("2 labels: x, y");
    const written = await server.post("/tasks", { id: "written", examples: [{ input: "a", output: "b" }] });
    expect(written.body).toMatchObject({ type: "generation", labels: null });
    expect((await server.get("/tasks/written/prompts/1")).body.template).toBe("Input: {{ input }}\nOutput:");
  });

  test.each([
    ["an id with capitals", { id: "Mood", labels: ["a", "b"] }, "validation"],
    ["an id of 65 characters", { id: "a".repeat(65), labels: ["a", "b"] }, "validation"],
    ["no type, labels or examples", { id: "bare" }, "validation"],
    ["one label", { id: "one", labels: ["a"] }, "validation"],
    ["one label, spelled out", { id: "one", labels: { a: " a" } }, "validation"],
    ["no labels", { id: "none", labels: {} }, "validation"],
    ["a label without a name", { id: "none", labels: { "": " a", b: " b" } }, "validation"],
    ["a misspelt member", { id: "odd", lables: ["a", "b"] }, "validation"],
    ["labels for generation", { id: "gen", type: "generation", labels: ["a", "b"] }, "validation"],
    ["labels that read the same", { id: "same", labels: ["not_spam", "not-spam"] }, "duplicate_verbalizer"],
    [
      "a template without a field",
      { id: "no", labels: ["a", "b"], prompt: { template: "x" } },
      "bad_template",
    ],
    [
      "a template with an unclosed tag",
      { id: "no", labels: ["a", "b"], prompt: { template: "{{ input" } },
      "bad_template",
    ],
    [
      "soft slots in a hard prompt",
      { id: "no", labels: ["a", "b"], prompt: { template: "{{ soft(3) }}{{ input }}" } },
      "bad_template",
    ],
    [
      "a template that leaves no room for an input",
      { id: "no", labels: ["a", "b"], prompt: { template: `{{ input }}${" word".repeat(9000)}` } },
      "input_too_long",
    ],
    [
      "labelled examples of a generation",
      { id: "no", type: "generation", examples: [{ input: "a", label: "b" }] },
      "validation",
    ],
    [
      "examples that do not fill the template",
      {
        id: "no",
        labels: ["a", "b"],
        prompt: { template: "{{ a }}{{ b }}" },
        examples: [{ input: "x", label: "a" }],
      },
      "fields_required",
    ],
    [
      "examples with other fields than the first",
      {
        id: "no",
        examples: [
          { input: { a: "x", b: "y" }, label: "a" },
          { input: { a: "x", c: "y" }, label: "b" },
        ],
      },
      "unknown_field",
    ],
    ["examples without inputs", { id: "no", examples: [{ label: "a" }] }, "validation"],
    [
      "a label of 5,000 characters in examples",
      { id: "no", examples: ["l".repeat(5000), "m"].map(label => ({ input: "x", label })) },
      "validation",
    ],
    [
      "examples of 1,100 labels",
      { id: "no", examples: Array.from({ length: 1100 }, (_, i) => ({ input: "x", label: `l${i}` })) },
      "validation",
    ],
    ["a verbalizer that is no text", { id: "no", labels: { "a\nb": 5, c: " c" } }, "validation"],
    ["one behind U+2028", { id: "no", labels: { "a\u2028b": 5, c: " c" } }, "validation"],
  ])("refused: %s", async (_, body, code) => {
    expectProblem(await server.post("/tasks", body), 422, code);
  });

  test("a label with a line break is kept and told", async () => {
    const labels = { "a\nb": " first", "c\r": " second" };
    const { body } = await server.post("/tasks", { id: "broken", labels });
    expect(body.labels).toEqual(labels);
    const { scores } = await server.infer("broken", { input: "x", scores: "all" });
    expect(Object.keys(scores).sort()).toEqual(["a\nb", "c\r"]);
  });

  test("the plain pattern has the examples' fields", async () => {
    const first = { premise: "It rains.", hypothesis: "It is wet." };
    const examples = [
      { input: first, label: "yes" },
      { input: { ...first, hypothesis: "It is dry." }, label: "no" },
    ];
    await server.task({ id: "nli", examples });
    expect((await server.get("/tasks/nli/prompts/1")).body.template).toBe(
      "Premise: {{ premise }}\nHypothesis: {{ hypothesis }}\nLabel:",
    );
    expect(["yes", "no"]).toContain((await server.infer("nli", { input: first })).label);
    const chat = { messages: [{ role: "user", content: "Hello!" }] };
    await server.task({ id: "chat", examples: [{ input: chat, output: "Hi." }] });
    expect((await server.get("/tasks/chat/prompts/1")).body.template).toBe("{{ messages }}");
  });

  test("a name is taken once", async () => {
    await server.task({ id: "taken", labels: ["a", "b"] });
    expectProblem(await server.post("/tasks", { id: "taken", labels: ["a", "b"] }), 409, "task_exists");
  });

  test("an Idempotency-Key replays the first reply and refuses another body", async () => {
    const headers = { "idempotency-key": "key-1" };
    const body = { id: "once", labels: ["a", "b"] };
    const [first, atOnce] = await Promise.all([
      server.post("/tasks", body, headers),
      server.post("/tasks", body, headers),
    ]);
    expect(atOnce).toMatchObject({ status: 201, body: first.body });
    const second = await server.post("/tasks", body, headers);
    expect(second).toMatchObject({ status: 201, body: first.body });
    expectProblem(
      await server.post("/tasks", { ...body, id: "twice" }, headers),
      409,
      "idempotency_conflict",
    );
    expectProblem(await server.post("/tasks", body, { "idempotency-key": "" }), 422, "validation", {
      field: "idempotency-key",
    });
  });

  test("lists go on from their cursor", async () => {
    for (let index = 0; index < 5; index++) await server.task({ id: `page-${index}`, labels: ["a", "b"] });
    const all = (await server.get("/tasks?limit=1000")).body.items.map((task: { id: string }) => task.id);
    const seen: string[] = [];
    let query = "?limit=3";
    for (;;) {
      const { items, next_cursor } = (await server.get(`/tasks${query}`)).body;
      expect(items.length).toBeLessThanOrEqual(3);
      seen.push(...items.map((task: { id: string }) => task.id));
      if (next_cursor === null) break;
      query = `?limit=3&cursor=${encodeURIComponent(next_cursor)}`;
    }
    expect(seen).toEqual(all);
    expectProblem(await server.get("/tasks?limit=0"), 422, "validation");
    expectProblem(await server.get("/tasks?cursor=nonsense"), 422, "validation");
  });

  test("labels, templates and inputs in Chinese", async () => {
    await server.task({
      id: "qinggan",
      labels: ["正面", "负面"],
      prompt: { template: "评论：{{ input }}\n情感：" },
    });
    const reply = await server.infer("qinggan", { input: "这部电影太好看了！", scores: "all" });
    expect(["正面", "负面"]).toContain(reply.label);
    const total = Object.values<number>(reply.scores).reduce((sum, score) => sum + score, 0);
    expect(total).toBeCloseTo(1, 5);
  });
});

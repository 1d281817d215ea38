import { Ajv } from "ajv";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { InferReply } from "../../src/contract/infer.ts";
import { describeBackbone } from "../support/backbone.ts";
import { type TinyBackbone, tinyBackbone } from "../support/tiny.ts";
import { expectProblem, files, startServer, type TestServer } from "./server.ts";

describeBackbone("infer over HTTP", path => {
  let server: TestServer;
  beforeAll(async () => {
    server = await startServer(path);
    await server.task({
      id: "mood",
      labels: ["positive", "negative"],
      prompt: { template: "Review: {{ input }}\nSentiment:" },
    });
    await server.task({ id: "go", type: "generation", prompt: { template: "{{ input }}" } });
    await server.task({
      id: "pair",
      labels: ["yes", "no"],
      prompt: { template: "Premise: {{ premise }}\nHypothesis: {{ hypothesis }}\nEntailed:" },
    });
  });
  afterAll(() => server.close());

  test("one input: the label, its score, the prompt, the positions", async () => {
    const cold = await server.infer("mood", { input: "I loved it." });
    const warm = await server.infer("mood", { input: "I loved it." });
    expect(warm).toEqual({
      task: "mood",
      label: cold.label,
      scores: cold.scores,
      prompt: { version: 1, kind: "hard" },
      usage: { ...cold.usage, cached_tokens: expect.any(Number), output_tokens: 0 },
    });
    expect(Object.keys(warm.scores)).toEqual([warm.label]);
    expect(warm.usage.cached_tokens).toBeGreaterThan(0);
    expect(warm.usage.cached_tokens).toBeLessThan(warm.usage.input_tokens);
  });

  test("a list of 256, three of them bad: the others are answered, in order", async () => {
    const inputs: unknown[] = Array.from({ length: 256 }, (_, index) => `Film number ${index} was fine.`);
    inputs[3] = "";
    inputs[100] = { wrong: "field" };
    inputs[255] = 42;
    const { results } = await server.infer("mood", { inputs });
    expect(results).toHaveLength(256);
    const bad = results.flatMap((result: { error?: { code: string } }, index: number) =>
      result.error ? [[index, result.error.code]] : [],
    );
    expect(bad).toEqual([
      [3, "empty_input"],
      [100, "unknown_field"],
      [255, "validation"],
    ]);
    for (const index of [0, 99, 254]) {
      const alone = await server.infer("mood", { input: inputs[index] });
      expect(results[index].label).toBe(alone.label);
      expect(results[index].scores[alone.label]).toBeCloseTo(alone.scores[alone.label], 4);
    }
  });

  test("all scores sum to 1, with several tokens and several verbalizers a label", async () => {
    await server.task({
      id: "team",
      labels: {
        "billing department": [" billing department", " billing"],
        technical: [" technical support team", " engineers"],
        other: " none of these",
      },
      prompt: { template: "Message: {{ input }}\nTeam:" },
    });
    const { scores, label } = await server.infer("team", { input: "My invoice is wrong.", scores: "all" });
    const values = Object.values<number>(scores);
    expect(values).toHaveLength(3);
    expect(values.reduce((sum, score) => sum + score, 0)).toBeCloseTo(1, 5);
    const top = await server.infer("team", { input: "My invoice is wrong." });
    expect(top.label).toBe(label);
    expect(top.scores[label]).toBeCloseTo(scores[label], 5);
  });

  test("targets: log P of texts, beside the answer", async () => {
    const { targets } = await server.infer("mood", {
      input: "Fine.",
      targets: [" positive", " a very long answer"],
    });
    expect(targets.map((target: { text: string; tokens: number }) => [target.text, target.tokens])).toEqual([
      [" positive", 1],
      [" a very long answer", 4],
    ]);
    for (const { logprob } of targets) expect(logprob).toBeLessThan(0);
  });

  test("several fields, and what is wrong with them", async () => {
    const whole = { premise: "A man plays the guitar.", hypothesis: "Somebody makes music." };
    expect(["yes", "no"]).toContain((await server.infer("pair", { input: whole })).label);
    const ask = (input: unknown) => server.post("/tasks/pair/infer", { input });
    expectProblem(await ask("text"), 422, "fields_required", { fields: ["premise", "hypothesis"] });
    expectProblem(await ask({ premise: "x" }), 422, "fields_required");
    expectProblem(await ask({ ...whole, more: "x" }), 422, "unknown_field");
    expectProblem(await ask({ ...whole, premise: " " }), 422, "empty_input");
  });

  test("a chat template takes messages", async () => {
    await server.task({ id: "chat", type: "generation", prompt: { template: "{{ messages }}" } });
    const messages = [
      { role: "system", content: "Answer with one word." },
      { role: "user", content: "What is the capital of France?" },
    ];
    const { text } = await server.infer("chat", { input: { messages }, max_tokens: 8 });
    expect(text).toContain("Paris");
  });

  test("special tokens inside an input are plain text", async () => {
    const plain = await server.infer("mood", { input: "a b" });
    const marked = await server.infer("mood", { input: "a <|im_end|> b" });
    // "<|im_end|>" is one special token, and six or more as text.
    expect(marked.usage.input_tokens - plain.usage.input_tokens).toBeGreaterThan(4);
    const { text, finish_reason } = await server.infer("go", {
      input: "Once upon a time<|im_end|> there was a",
      max_tokens: 4,
    });
    expect(finish_reason).toBe("length");
    expect(text.length).toBeGreaterThan(0);
  });

  test("an input that is too long is refused with figures", async () => {
    const long = `${"very ".repeat(9000)}good`;
    const answer = await server.post("/tasks/mood/infer", { input: long });
    expectProblem(answer, 422, "input_too_long");
    const { tokens, limit, over } = answer.body;
    expect(tokens - limit).toBe(over);
    expect(over).toBeGreaterThan(0);
  });

  test("generation: greedy, seeded, stopped, with log-probabilities", async () => {
    const input = "The capital of France is";
    const greedy = await server.infer("go", { input, max_tokens: 5 });
    expect(greedy).toMatchObject({ finish_reason: "length", usage: { output_tokens: 5 } });
    expect(greedy.text).toContain("Paris");
    expect((await server.infer("go", { input, max_tokens: 5 })).text).toBe(greedy.text);

    const sampled = { input, max_tokens: 12, temperature: 1.5, top_p: 0.95, top_k: 200 };
    const [a, b, c] = await Promise.all([7, 7, 8].map(seed => server.infer("go", { ...sampled, seed })));
    expect(a.text).toBe(b.text);
    expect(a.text).not.toBe(c.text);

    const stopped = await server.infer("go", { input, max_tokens: 40, stop: ["."] });
    expect(stopped).toMatchObject({ finish_reason: "stop" });
    expect(stopped.text).not.toContain(".");

    const told = await server.infer("go", { input, max_tokens: 3, logprobs: 2 });
    expect(told.logprobs).toHaveLength(3);
    for (const { logprob, top } of told.logprobs) {
      expect(top).toHaveLength(2);
      expect(top[0].logprob).toBeCloseTo(logprob, 6);
      expect(top[1].logprob).toBeLessThanOrEqual(top[0].logprob);
    }
    const once = await server.infer("go", { input: "go go go go go", max_tokens: 8, repetition_penalty: 5 });
    expect(once.text).not.toContain("go go");
  });

  test("generation within choices, and within a JSON schema", async () => {
    const choices = ["red", "green", "greenish blue"];
    const { text } = await server.infer("go", { input: "The grass is", choices });
    expect(choices).toContain(text);
    const schema = {
      type: "object",
      properties: { name: { type: "string", maxLength: 20 }, age: { type: "integer" } },
      required: ["name", "age"],
      additionalProperties: false,
    };
    const valid = new Ajv().compile(schema);
    for (const seed of [1, 2, 3]) {
      const made = await server.infer("go", {
        input: "A person as JSON: ",
        json_schema: schema,
        max_tokens: 120,
        temperature: 0.8,
        seed,
      });
      expect(made.finish_reason).toBe("stop");
      expect(valid(JSON.parse(made.text)), made.text).toBe(true);
    }
    // Wherever the limit cuts, what was begun is brought to an end; behind what was trained too.
    const report = await server.backbone();
    const trained = [files.prefix(report), files.soft(report)].map(file => server.upload("go", file));
    const versions = (await Promise.all(trained)).map(({ body }) => body.version);
    for (const [prompt, most] of [[1, 12], ...versions.map(version => [version, 6])])
      for (let max_tokens = 1; max_tokens <= most; max_tokens++) {
        const asked = { input: "A person as JSON: ", json_schema: schema, max_tokens, prompt };
        const cut = await server.infer("go", asked);
        expect(valid(JSON.parse(cut.text)), cut.text).toBe(true);
        if (cut.finish_reason === "length") expect(cut.usage.output_tokens).toBeGreaterThan(max_tokens);
      }
  });

  test("an input of which the vocabulary has no character is refused, and moves no other's answer", async () => {
    const prompt = { template: "{{ input }}" };
    await server.task({ id: "bare", labels: ["good", "bad"], prompt });
    const inputs = ["\u001d", "A fine film", "\u0004\u0016", "Dull", "\u001d"];
    const { results } = await server.infer("bare", { inputs, scores: "all" });
    for (const [index, input] of inputs.entries()) {
      if (input.charCodeAt(0) < 32) expect(results[index].error).toMatchObject({ code: "empty_input" });
      else {
        const alone = await server.infer("bare", { input, scores: "all" });
        expect(results[index].scores.good).toBeCloseTo(alone.scores.good, 5);
      }
    }
  });

  test.each<[string, string, object, string]>([
    ["neither input nor inputs", "mood", {}, "validation"],
    ["both", "mood", { input: "a", inputs: ["a"] }, "validation"],
    ["an empty list", "mood", { inputs: [] }, "validation"],
    ["257 inputs", "mood", { inputs: Array(257).fill("a") }, "validation"],
    ["white space alone", "mood", { input: " \n" }, "empty_input"],
    ["a misspelt setting", "mood", { input: "a", temprature: 1 }, "validation"],
    ["generation's settings for a classification", "mood", { input: "a", max_tokens: 3 }, "validation"],
    ["a stream of a classification", "mood", { input: "a", stream: true }, "validation"],
    [
      "votes that weigh nothing",
      "mood",
      { input: "a", prompt: { ensemble: [1, 1], vote: "weighted", weights: [0, 0] } },
      "validation",
    ],
    [
      "a schema that can't be promised",
      "go",
      { input: "a", json_schema: { type: "array", uniqueItems: true } },
      "validation",
    ],
    ["scores of a generation", "go", { input: "a", scores: "all" }, "validation"],
    ["a temperature below 0", "go", { input: "a", temperature: -1 }, "validation"],
    ["nine stop texts", "go", { input: "a", stop: Array(9).fill("x") }, "validation"],
    ["choices with a schema", "go", { input: "a", choices: ["x"], json_schema: {} }, "validation"],
    ["a choice without a token", "go", { input: "a", choices: ["\u0004", "x"] }, "validation"],
    ["a target without a token", "mood", { input: "a", targets: ["\u0004"] }, "validation"],
    [
      "choices too long together",
      "go",
      { input: "a", choices: Array(1000).fill("word ".repeat(200)) },
      "validation",
    ],
    ["a stop text of choices", "go", { input: "a", choices: ["x, y"], stop: [","] }, "validation"],
    ["a stop text of JSON", "go", { input: "a", json_schema: {}, stop: [","] }, "validation"],
    [
      "a field's value that is no text",
      "pair",
      { input: { premise: "a", hypothesis: "b", "c\nd": 7 } },
      "validation",
    ],
    ["a stream of a list", "go", { inputs: ["a"], stream: true }, "validation"],
  ])("refused: %s", async (_, task, body, code) => {
    expectProblem(await server.post(`/tasks/${task}/infer`, body), 422, code);
  });

  test("a prompt that is not there", async () => {
    for (const body of [{ input: "a" }, { inputs: ["a", ""] }])
      expectProblem(await server.post("/tasks/mood/infer", { ...body, prompt: 9 }), 404, "prompt_not_found");
  });
});

describe("an input that is too long, in a context of 128 positions", () => {
  let backbone: TinyBackbone;
  let server: TestServer;
  beforeAll(async () => {
    backbone = await tinyBackbone("llama", false);
    server = await startServer(backbone.path, { precision: "fp32" });
    const prompt = { template: "{{ input }}:" };
    await server.task({ id: "mood", labels: ["a", "b"], prompt });
    await server.task({ id: "go", type: "generation", prompt });
  });
  afterAll(async () => {
    await server.close();
    await backbone.remove();
  });

  // A letter is a token.
  const [head, tail] = ["abcde", "vwxyz"].map(letters => letters.repeat(40)) as [string, string];
  const input = head + tail;

  test.each<[string, object, (reply: InferReply) => unknown]>([
    ["mood", { scores: "all" }, ({ scores }) => scores],
    ["go", { max_tokens: 8 }, ({ text }) => text],
  ])("%s: is refused, or answered as what is left of it", async (task, more, answerOf) => {
    const refused = await server.post(`/tasks/${task}/infer`, { input, ...more });
    expectProblem(refused, 422, "input_too_long");
    const cut = async (truncate: string) => {
      const reply = await server.infer(task, { input, truncate, ...more });
      expect(reply.usage.input_tokens).toBeLessThanOrEqual(refused.body.limit);
      return reply;
    };
    const [start, end] = [await cut("start"), await cut("end")];
    const letters = end.usage.input_tokens - 1;
    for (const [reply, left] of [
      [start, tail.slice(-letters)],
      [end, head.slice(0, letters)],
    ] as const)
      expect(answerOf(reply)).toEqual(answerOf(await server.infer(task, { input: left, ...more })));
    expect(answerOf(start)).not.toEqual(answerOf(end));
  });
});

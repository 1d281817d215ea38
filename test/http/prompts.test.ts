import fc from "fast-check";
import { afterAll, beforeAll, expect, test } from "vitest";
import type { BackboneReport } from "../../src/contract/backbone.ts";
import { readPromptFile, writePromptFile } from "../../src/prompt/file.ts";
import { describeShallow } from "../support/shallow.ts";
import { expectProblem, files, promptFile, startServer, type TestServer } from "./server.ts";

describeShallow("prompts over HTTP", path => {
  let server: TestServer;
  let backbone: BackboneReport;
  beforeAll(async () => {
    server = await startServer(path);
    backbone = await server.backbone();
    await server.task({ id: "mood", labels: ["positive", "negative"] });
  });
  afterAll(() => server.close());

  test("a hard prompt: every piece is frozen, there is no file of it", async () => {
    const template = "Review: great!\nSentiment: positive\n\nReview: {{ input }}\nSentiment:";
    const made = await server.post("/tasks/mood/prompts", { kind: "hard", template, name: "one shot" });
    expect(made.status).toBe(201);
    expect(made.headers.get("location")).toBe("/tasks/mood/prompts/2");
    expect(made.body).toMatchObject({
      version: 2,
      name: "one shot",
      kind: "hard",
      template,
      bytes: 0,
      backbone: { fingerprint: backbone.fingerprint },
      parent: null,
    });
    expect(made.body.pieces.length).toBeGreaterThan(1);
    for (const piece of made.body.pieces) {
      expect(piece.frozen).toBe(true);
      expect(piece).not.toHaveProperty("trained");
    }
    expectProblem(await server.get("/tasks/mood/prompts/2?format=safetensors"), 409, "not_expressible");
  });

  test.each(["soft", "prefix"] as const)("a %s prompt file goes in and comes out as it was", async kind => {
    const file = files[kind](backbone);
    const made = await server.upload("mood", file);
    expect(made.status).toBe(201);
    expect(made.body).toMatchObject({ kind, backbone: { name: backbone.name } });
    const trained = made.body.pieces.filter((piece: { trained?: boolean }) => piece.trained);
    expect(trained).toEqual([kind === "soft" ? { soft: 3, trained: true } : { prefix: 4, trained: true }]);
    const response = await fetch(`${server.url}/tasks/mood/prompts/${made.body.version}?format=safetensors`);
    expect(response.headers.get("content-type")).toBe(promptFile);
    expect(Buffer.from(await response.arrayBuffer()).equals(Buffer.from(file))).toBe(true);
    const reply = await server.infer("mood", { input: "Fine.", prompt: made.body.version, scores: "all" });
    expect(reply.prompt).toEqual({ version: made.body.version, kind });
    const total = Object.values<number>(reply.scores).reduce((sum, score) => sum + score, 0);
    expect(total).toBeCloseTo(1, 5);
  });

  test("slots that begin as texts are shown with their own lengths", async () => {
    const file = readPromptFile(files.soft(backbone));
    const width = file.soft!.dims[1]!;
    const written = writePromptFile({
      ...file,
      template: '{{ soft("a") }}{{ soft("b c d e") }}{{ input }}:',
      soft: { dims: [5, width], data: new Float32Array(5 * width) },
    });
    const { pieces } = (await server.upload("mood", written)).body;
    expect(pieces.slice(0, 2)).toEqual([
      { soft: 1, trained: true },
      { soft: 4, trained: true },
    ]);
  });

  test("a copy names where it came from", async () => {
    const source = (await server.upload("mood", files.soft(backbone))).body;
    await server.task({ id: "copy", labels: ["positive", "negative"] });
    const copied = await server.post("/tasks/copy/prompts?activate=true", {
      from: { task: "mood", version: source.version },
    });
    expect(copied.body).toMatchObject({
      version: 2,
      kind: "soft",
      parent: { task: "mood", version: source.version },
    });
    expect((await server.get("/tasks/copy")).body.active).toEqual({ prompt: 2 });
    const input = { input: "It rained.", scores: "all" };
    const there = await server.infer("mood", { ...input, prompt: source.version });
    expect((await server.infer("copy", input)).scores).toEqual(there.scores);
    expectProblem(
      await server.post("/tasks/copy/prompts", { from: { task: "mood", version: 99 } }),
      404,
      "prompt_not_found",
    );
  });

  test("a copy answers as the original does, whatever texts the other task has; a trained one needs its labels", async () => {
    await server.task({ id: "spelt", labels: { positive: " great", negative: [" bad", " poor"] } });
    const source = (await server.upload("spelt", files.prefix(backbone))).body;
    const from = { task: "spelt", version: source.version };
    await server.task({ id: "twin", labels: ["negative", "positive"] });
    const trained = await server.post("/tasks/twin/prompts", { from });
    expect(trained.body.verbalizers).toEqual({ positive: [" great"], negative: [" bad", " poor"] });
    const words = await server.post("/tasks/twin/prompts", { from: { task: "mood", version: 1 } });
    expect(words.body).not.toHaveProperty("verbalizers");
    const ask = { input: "It rained.", scores: "all" };
    const there = await server.infer("spelt", { ...ask, prompt: source.version });
    const here = await server.infer("twin", { ...ask, prompt: trained.body.version });
    for (const label of ["positive", "negative"])
      expect(here.scores[label]).toBeCloseTo(there.scores[label], 5);

    await server.task({ id: "letter", labels: ["a", "b"] });
    const refused = await server.post("/tasks/letter/prompts", { from });
    expectProblem(refused, 422, "validation", { field: "from" });
    expect(refused.body.detail).toMatch(
      /labels positive, negative, and letter is for the labels a, b\..*"init"/,
    );
    await server.task({ id: "story", type: "generation" });
    expectProblem(await server.post("/tasks/story/prompts", { from }), 422, "validation", { field: "from" });
    const own = { template: "{{ input }} is", verbalizers: { a: [" aye"], c: [" sea"] } };
    await server.task({ id: "grade", labels: ["a", "c"] });
    expect((await server.post("/tasks/grade/prompts", own)).status).toBe(201);
    const part = await server.post("/tasks/letter/prompts", { from: { task: "grade", version: 2 } });
    expect(part).toMatchObject({ status: 201, body: { verbalizers: { a: [" aye"] } } });
    expect(part.body.verbalizers).not.toHaveProperty("c");
    const hard = await server.post("/tasks/letter/prompts", { from: { task: "mood", version: 1 } });
    expect(hard).toMatchObject({ status: 201, body: { kind: "hard", parent: { task: "mood", version: 1 } } });
  });

  test("deleting: not while active, or a member of what is active", async () => {
    await server.task({ id: "many", labels: ["a", "b"] });
    await server.post("/tasks/many/prompts", { template: "Q: {{ input }}\nA:" });
    expectProblem(await server.call("DELETE", "/tasks/many/prompts/1"), 409, "prompt_in_use");
    await server.put("/tasks/many/active", { ensemble: [1, 2], vote: "mean" });
    expectProblem(await server.call("DELETE", "/tasks/many/prompts/2"), 409, "prompt_in_use");
    await server.put("/tasks/many/active", { prompt: 2 });
    expect((await server.call("DELETE", "/tasks/many/prompts/1")).status).toBe(204);
    expectProblem(await server.get("/tasks/many/prompts/1"), 404, "prompt_not_found");
    const third = await server.post("/tasks/many/prompts", { template: "{{ input }} is" });
    expect(third.body.version).toBe(3);
  });

  test("a prompt may have verbalizers of its own; labels that it leaves out keep the task's", async () => {
    const template = "Text: {{ input }}\nMood:";
    const labels = { glad: " happy", sad: [" sad", " unhappy"] };
    await server.task({
      id: "own",
      type: "classification",
      labels: ["glad", "sad", "calm"],
      prompt: { template },
    });
    await server.task({
      id: "spelled",
      type: "classification",
      labels: { ...labels, calm: " calm" },
      prompt: { template },
    });
    const made = await server.post("/tasks/own/prompts?activate=true", { template, verbalizers: labels });
    expect(made.body).toMatchObject({ version: 2, verbalizers: labels });
    const ask = { input: "What a lovely day.", scores: "all" };
    const [plain, own, spelled] = [
      await server.infer("own", { ...ask, prompt: 1 }),
      await server.infer("own", ask),
      await server.infer("spelled", ask),
    ];
    expect(Object.keys(own.scores!).sort()).toEqual(["calm", "glad", "sad"]);
    expect(own.scores).toEqual(spelled.scores);
    expect(own.scores).not.toEqual(plain.scores);
    const odd = { template, verbalizers: { angry: " angry" } };
    expectProblem(await server.post("/tasks/own/prompts", odd), 422, "validation", { field: "verbalizers" });
    const same = { template, verbalizers: { glad: " sad" } };
    expectProblem(await server.post("/tasks/own/prompts", same), 422, "duplicate_verbalizer");

    // What is trained from it speaks as it does, and its file says so.
    const examples = ["Good.", "Bad.", "Fine."].map((input, i) => ({
      input,
      label: ["glad", "sad", "calm"][i],
    }));
    const body = {
      examples,
      validation: examples.map(each => ({ ...each, input: `${each.input}!` })),
      steps: 1,
      length: 2,
    };
    const job = await server.job("/tasks/own/train", body, 60_000);
    expect(job, JSON.stringify(job.error)).toMatchObject({ state: "succeeded" });
    expect((await server.get("/tasks/own/prompts/3")).body.verbalizers).toEqual(labels);
  });

  test("another backbone's prompt is refused with both names", async () => {
    const foreign = files.soft({ ...backbone, fingerprint: "0".repeat(64) });
    expectProblem(await server.upload("mood", foreign), 409, "backbone_mismatch", {
      backbone: backbone.fingerprint,
    });
  });

  const narrow = () =>
    writePromptFile({
      ...readPromptFile(files.soft(backbone)),
      soft: { dims: [3, 64], data: new Float32Array(192) },
    });
  const withRecipe = (recipe: unknown) =>
    writePromptFile({ ...readPromptFile(files.soft(backbone)), recipe });
  const nested = (levels: number): unknown[] => (levels === 0 ? [] : [nested(levels - 1)]);
  test("a recipe within its limits is kept", async () => {
    const recipe = { text: "x".repeat(260_000), deep: nested(60) };
    const { status, body } = await server.upload("mood", withRecipe(recipe));
    expect([status, body.recipe]).toEqual([201, recipe]);
  });
  test.each<[string, () => Uint8Array, string]>([
    ["NaN", () => withNumber(files.soft(backbone), Number.NaN), "bad_tensor"],
    ["infinity", () => withNumber(files.soft(backbone), Infinity), "bad_tensor"],
    ["another width", narrow, "bad_tensor"],
    [
      "fewer rows than the slots",
      () => withHeader(files.soft(backbone), header => header.replace("soft(3)", "soft(4)")),
      "bad_tensor",
    ],
    ["a recipe that is no small thing", () => withRecipe("x".repeat(300_000)), "bad_tensor"],
    ["a recipe of many levels", () => withRecipe(nested(65)), "bad_tensor"],
    ["a truncated file", () => files.soft(backbone).subarray(0, 2000), "bad_tensor"],
    ["a lying header", () => lying(files.soft(backbone)), "bad_tensor"],
    ["no file at all", () => new TextEncoder().encode("hello"), "bad_tensor"],
    ["nothing", () => new Uint8Array(0), "bad_tensor"],
  ])("refused: %s", async (_, file, code) => {
    const answer = await server.upload("mood", file());
    expectProblem(answer, 422, code);
  });

  test("a body of neither form names what either lacks", async () => {
    await server.task({ id: "neither", labels: ["a", "b"] });
    const { status, body } = await server.post("/tasks/neither/prompts", { templat: "{{ input }}" });
    expect([status, body.code]).toEqual([422, "validation"]);
    expect(body.detail).toBe("body: template or from is missing. Send it.");
  });

  test("whatever bytes come, the answer is a problem or a prompt, and the server stays up", async () => {
    const whole = files.soft(backbone, 1);
    const before = (await server.get("/tasks/mood")).body.prompts;
    let taken = 0;
    await fc.assert(
      fc.asyncProperty(
        fc.array(fc.tuple(fc.nat(900), fc.nat(255)), { minLength: 1, maxLength: 6 }),
        fc.option(fc.nat(whole.length)),
        async (edits, cut) => {
          const bytes = whole.slice(0, cut ?? whole.length);
          for (const [at, value] of edits) if (at < bytes.length) bytes[at] = value;
          const { status } = await server.upload("mood", bytes);
          expect([201, 409, 422]).toContain(status);
          if (status === 201) taken++;
        },
      ),
      { numRuns: 150, seed: 11 },
    );
    expect((await server.get("/tasks/mood")).body.prompts).toBe(before + taken);
    expect((await server.get("/readyz")).status).toBe(200);
  });

  test("a prompt longer than the context is refused when it is registered", async () => {
    const template = `${"word ".repeat(9000)}{{ input }}`;
    expectProblem(await server.post("/tasks/mood/prompts", { template }), 422, "input_too_long", {
      limit: expect.any(Number),
      over: expect.any(Number),
    });
  });
});

const headerLength = (file: Uint8Array) =>
  Number(new DataView(file.buffer, file.byteOffset).getBigUint64(0, true));

/** The first number of the file's data becomes `number`. */
function withNumber(file: Uint8Array, number: number): Uint8Array {
  const bytes = file.slice();
  new DataView(bytes.buffer).setFloat32(8 + headerLength(file), number, true);
  return bytes;
}

/** The header, of the same length, after `change`. */
function withHeader(file: Uint8Array, change: (header: string) => string): Uint8Array {
  const length = headerLength(file);
  const header = new TextDecoder().decode(file.subarray(8, 8 + length));
  const bytes = file.slice();
  const changed = change(header);
  expect(changed).not.toBe(header);
  bytes.set(new TextEncoder().encode(changed.slice(0, length)), 8);
  return bytes;
}

/** A header that says that the tensor is longer than the file. */
const lying = (file: Uint8Array) =>
  withHeader(file, header =>
    header.replace(
      /"data_offsets":\[(\d+),(\d+)\]/,
      (_, from, to) => `"data_offsets":[${from},${"9".repeat(to.length)}]`,
    ),
  );

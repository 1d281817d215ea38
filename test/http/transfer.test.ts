/** What one task's prompt is to another, over HTTP, on the real backbone with its bundled prompts. */
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { DonorsReport, RankedStart, SimilarityGroup } from "../../src/contract/transfer.ts";
import { type PromptFile, readPromptFile, writePromptFile } from "../../src/prompt/file.ts";
import { inputKey } from "../../src/training/examples.ts";
import { chosenExamples } from "../../src/training/start.ts";
import { describeBackbone } from "../support/backbone.ts";
import { reviewsOf } from "../support/reviews.ts";
import { describeShallow } from "../support/shallow.ts";
import { expectProblem, files, startServer, type TestServer } from "./server.ts";

const MINUTES = 60_000;
const library = ["banking-intent", "data-to-text", "question-type", "sentiment", "spam"];
const renamed = (examples: ReturnType<typeof reviewsOf>) =>
  examples.map(({ input, label }) => ({ input, label: label === "positive" ? "praise" : "blame" }));
const examples = renamed(reviewsOf(["film"]));
const others = renamed(reviewsOf(["play"])).filter((_, index) => index % 5 === 0);

/** Of other labels and other words than any bundled task. */
const mood = {
  id: "mood",
  type: "classification",
  labels: ["praise", "blame"],
  prompt: { template: "Somebody said: {{ input }} This is" },
};
/** A rate at which nothing moves: what comes out is what training began with. */
const still = { steps: 1, batch_size: 2, learning_rate: 1e-12, validation: others, max_tokens: 100 };
const donor = (task: string, version: number) => ({ init: { prompt: { task, version } } });

async function fileOf(server: TestServer, task: string, version: number): Promise<PromptFile> {
  const url = `${server.url}/tasks/${task}/prompts/${version}?format=safetensors`;
  return readPromptFile(new Uint8Array(await (await fetch(url)).arrayBuffer()));
}
async function reportOf(server: TestServer, task: string, body: object): Promise<DonorsReport> {
  const job = await server.job(`/tasks/${task}/donors`, body);
  expect(job, JSON.stringify(job.error)).toMatchObject({ kind: "donors", state: "succeeded" });
  return job.result;
}
const namesOf = ({ table }: DonorsReport) =>
  table.map(({ init }) => (typeof init === "object" && "prompt" in init ? init.prompt.task : init));

describeBackbone("transfer over HTTP", backbone => {
  let server: TestServer;
  beforeAll(async () => {
    server = await startServer(backbone, { trainThreads: 2 });
    await server.task(mood);
    await server.task({ id: "bare", labels: ["a", "b"], prompt: { template: "{{ input }}:" } });
    const report = await server.backbone();
    await server.upload("bare", files.soft(report));
    await server.upload("bare", files.prefix(report));
  });
  afterAll(() => server.close());

  const file = (task: string, version: number) => fileOf(server, task, version);

  describe("similarity", () => {
    const groupOf = async (query: string, kind: "soft" | "prefix"): Promise<SimilarityGroup> => {
      const { status, body } = await server.get(`/prompts/similarity${query}`);
      expect(status, JSON.stringify(body)).toBe(200);
      return body.groups.find((group: SimilarityGroup) => group.kind === kind);
    };

    test("every task's prompt with every other's, soft with soft and prefix with prefix", async () => {
      const soft = await groupOf("", "soft");
      const prefix = await groupOf("", "prefix");
      expect(soft.prompts.map(({ task }) => task)).toEqual(["banking-intent", "bare", ...library.slice(1)]);
      // The latest of the kind, or what is active: version 2 of a bundled task is soft, 3 the prefix that answers.
      expect(soft.prompts.map(({ version }) => version)).toEqual([2, 2, 2, 2, 2, 2]);
      expect(prefix.prompts.map(({ version }) => version)).toEqual([3, 3, 3, 3, 3, 3]);
      expect(prefix.prompts.map(({ positions }) => positions)).toEqual([64, 4, 64, 64, 64, 64]);
      for (const { average_tokens, token_pairs } of [soft, prefix])
        for (const [row, line] of average_tokens.entries())
          for (const [column, cosine] of line.entries()) {
            expect(cosine).toBeCloseTo(row === column ? 1 : average_tokens[column]![row]!, 5);
            expect(Math.abs(token_pairs[row]![column]!)).toBeLessThanOrEqual(1);
          }
      // Pair by pair, as it is defined.
      const [one, two] = [(await file("sentiment", 2)).soft!, (await file("spam", 2)).soft!];
      const [, hidden] = one.dims;
      let total = 0;
      for (let i = 0; i < 64; i++)
        for (let j = 0; j < 64; j++) {
          let [ab, aa, bb] = [0, 0, 0];
          for (let k = 0; k < hidden; k++) {
            const [a, b] = [one.data[i * hidden + k]!, two.data[j * hidden + k]!];
            ab += a * b;
            aa += a * a;
            bb += b * b;
          }
          total += ab / Math.sqrt(aa * bb);
        }
      const at = (task: string) => soft.prompts.findIndex(prompt => prompt.task === task);
      expect(soft.token_pairs[at("sentiment")]![at("spam")]).toBeCloseTo(total / 64 ** 2, 5);
    });

    test("some tasks, one kind, every version", async () => {
      await server.upload("bare", files.soft(await server.backbone(), 5, 2));
      const { body } = await server.get("/prompts/similarity?tasks=bare,spam&kind=soft&all=true");
      expect(body.groups).toHaveLength(1);
      expect(body.groups[0].prompts).toEqual([
        { task: "bare", version: 2, positions: 3 },
        { task: "bare", version: 4, positions: 5 },
        { task: "spam", version: 2, positions: 64 },
      ]);
      expect(body.left_out).toEqual([]);
      expect((await groupOf("?tasks=mood", "prefix")).prompts).toEqual([]);
    });

    test("what can't be compared", async () => {
      expectProblem(await server.get("/prompts/similarity?tasks=nowhere"), 404, "task_not_found");
      expectProblem(await server.get("/prompts/similarity?kind=hard"), 422, "validation");
    });
  });

  describe("positions", () => {
    const nearest = (task: string, version: number, query = "") =>
      server.get(`/tasks/${task}/prompts/${version}/nearest${query}`);
    const attention = (task: string, version: number, inputs: unknown) =>
      server.post(`/tasks/${task}/prompts/${version}/attention`, { inputs });

    test("virtual tokens have words near them", async () => {
      const { status, body } = await nearest("question-type", 2, "?count=3");
      expect(status, JSON.stringify(body)).toBe(200);
      expect(body).toMatchObject({ task: "question-type", version: 2, kind: "soft" });
      expect(body.positions).toHaveLength(64);
      for (const { tokens } of body.positions) {
        expect(tokens).toHaveLength(3);
        const similarities = tokens.map(({ similarity }: { similarity: number }) => similarity);
        expect(similarities).toEqual(similarities.toSorted((a: number, b: number) => b - a));
        expect(similarities[0]).toBeLessThanOrEqual(1.000001);
      }
      expect((await nearest("bare", 2)).body.positions[0].tokens).toHaveLength(5);
    });

    test("a prefix has no words near it, and hard words are words already", async () => {
      expectProblem(await nearest("sentiment", 3), 422, "validation", {
        detail: expect.stringMatching(/prefix.*POST inputs to .*attention/),
      });
      expectProblem(await nearest("sentiment", 1), 422, "validation", {
        detail: expect.stringMatching(/words already/),
      });
      expectProblem(await nearest("sentiment", 99), 404, "prompt_not_found");
      expectProblem(await nearest("bare", 2, "?count=0"), 422, "validation");
    });

    test("a prefix's positions get shares of attention, while others are answered", async () => {
      const [{ status, body }, answer] = await Promise.all([
        attention("sentiment", 3, ["A warm and funny film.", "Dull."]),
        server.infer("sentiment", { input: "A warm and funny film." }),
      ]);
      expect(status, JSON.stringify(body)).toBe(200);
      expect(answer.label).toBe("positive");
      const { layers } = await server.backbone();
      expect(body).toMatchObject({ kind: "prefix", inputs: 2 });
      expect(body.layers).toHaveLength(layers);
      expect(body.positions).toHaveLength(64);
      for (const { kind, position, attention: share, answer: last } of body.positions) {
        expect(kind).toBe("trained");
        const over = (which: "attention" | "answer") =>
          body.layers.reduce(
            (sum: number, layer: Record<string, number[]>) => sum + layer[which]![position]!,
            0,
          );
        expect(share).toBeCloseTo(over("attention") / layers, 6);
        expect(last).toBeCloseTo(over("answer") / layers, 6);
      }
      // Of every layer, no more than all of it.
      for (const { attention: shares } of body.layers)
        expect(shares.reduce((a: number, b: number) => a + b)).toBeLessThan(1);
    });

    test("of a stacked prompt, the positions of what it stands on come first", async () => {
      const on = { task: "sentiment", version: 3 };
      const made = await server.post("/tasks/mood/prompts", { template: "Said: {{ input }} This is", on });
      expect(made.status).toBe(201);
      const { body } = await attention("mood", made.body.version, ["It is warm."]);
      expect(body.positions).toHaveLength(made.body.length);
      const kinds = body.positions.map(({ kind }: { kind: string }) => kind);
      expect(kinds.lastIndexOf("trained")).toBe(63);
      const words = body.positions.slice(64).map(({ text }: { text: string }) => text);
      // The space before the base's field is a word of it.
      expect(words.join("")).toBe(" Said:");
    });

    test("what nobody can attend to", async () => {
      expectProblem(await attention("bare", 1, ["x"]), 422, "validation", {
        detail: expect.stringMatching(/nothing before its first field/),
      });
      expectProblem(await attention("sentiment", 3, []), 422, "validation");
      expectProblem(await attention("sentiment", 3, [" "]), 422, "empty_input");
      expectProblem(await attention("sentiment", 3, [{ text: "x" }]), 422, "unknown_field");
      expectProblem(await attention("sentiment", 3, ["x ".repeat(600)]), 422, "input_too_long", {
        limit: 512,
      });
      // Nobody waits until all of it is encoded.
      expectProblem(await attention("sentiment", 3, [" ".repeat(4_000_000)]), 422, "input_too_long");
      expectProblem(await attention("sentiment", 9, ["x"]), 404, "prompt_not_found");
    });
  });

  describe("a start from another task's prompt", () => {
    test("what can't be a start", async () => {
      const train = (settings: object) =>
        server.post("/tasks/mood/train", { examples, ...still, ...settings });
      expectProblem(await train({ method: "soft", ...donor("sentiment", 3) }), 422, "validation", {
        field: "init",
        detail: expect.stringMatching(/is a prefix.*no virtual tokens/),
      });
      const template = "{{ soft(5) }}{{ input }} This is";
      expectProblem(await train({ method: "soft", template, ...donor("bare", 2) }), 422, "validation", {
        field: "init",
        detail: expect.stringMatching(/gives 3 virtual tokens.*ask for 5/),
      });
      expectProblem(await train({ length: 7, ...donor("sentiment", 3) }), 422, "validation", {
        field: "init",
      });
      expectProblem(await train(donor("bare", 1)), 422, "validation", { field: "init" });
      expectProblem(await train(donor("nowhere", 1)), 404, "task_not_found");
      const distil = { method: "distill", init: "donor", steps: 1, examples };
      expectProblem(await server.post("/tasks/mood/train", distil), 422, "validation", { field: "init" });
      expectProblem(await train({ init: "donor", length: 8 }), 422, "validation", { field: "init" });
    });
  });

  describe("donors", () => {
    test(
      "the prompt of a like task comes first, and is what training then starts from",
      async () => {
        const report = await reportOf(server, "mood", { examples, seed: 5 });
        expect(namesOf(report).toSorted()).toEqual(["bare", "examples", ...library].toSorted());
        expect(report.table.map(({ rank }) => rank)).toEqual(report.table.map((_, index) => index + 1));
        const place = (name: string) => namesOf(report).indexOf(name);
        expect(place("sentiment")).toBeLessThan(2);
        expect(place("sentiment")).toBeLessThan(place("banking-intent"));
        expect(report.best.init).toEqual(report.table[0]!.init);
        for (const { loss, accuracy } of report.table) {
          expect(loss).toBeGreaterThan(0);
          expect(accuracy).toBeGreaterThanOrEqual(0);
        }

        const job = await server.job("/tasks/mood/train", {
          examples,
          init: "donor",
          seed: 5,
          ...{ steps: 2, batch_size: 4, validation: others },
        });
        expect(job, JSON.stringify(job.error)).toMatchObject({ state: "succeeded" });
        const { recipe } = (await server.get(`/tasks/mood/prompts/${job.result.versions[0]}`)).body;
        expect(recipe.init).toEqual(report.best.init);
        expect(job.log.map(({ text }: { text: string }) => text)).toContainEqual(
          expect.stringMatching(/^loss before training by start: /),
        );
      },
      4 * MINUTES,
    );

    test("what can't be ranked", async () => {
      const donors = (body: object) => server.post("/tasks/mood/donors", body);
      const one = { task: "sentiment", version: 3 };
      expectProblem(await donors({}), 422, "validation", { field: "examples" });
      expectProblem(await donors({ examples, candidates: [one, one] }), 422, "validation", {
        field: "candidates[1]",
      });
      expectProblem(await donors({ examples, method: "soft", candidates: [one] }), 422, "validation", {
        field: "candidates[0]",
      });
      expectProblem(
        await donors({ examples, candidates: [{ task: "sentiment", version: 99 }] }),
        404,
        "prompt_not_found",
      );
      expectProblem(await donors({ examples: [{ input: "x", label: "y" }] }), 422, "bad_dataset");
      expectProblem(await server.post("/tasks/nowhere/donors", { examples }), 404, "task_not_found");
    });
  });
});

describeShallow("transfer of uploaded prompts", backbone => {
  let server: TestServer;
  beforeAll(async () => {
    server = await startServer(backbone, { trainThreads: 2 });
    await server.task(mood);
    await server.task({ id: "poem", type: "generation" });
    const report = await server.backbone();
    // Versions 2 and 3 of both.
    for (const [phase, task] of [
      { id: "bare", labels: ["a", "b"] },
      { id: "tale", type: "generation" },
    ].entries()) {
      await server.task(task);
      await server.upload(task.id, files.soft(report, 3, phase));
      // Words behind its positions would be positions of the start too.
      const prefix = { ...readPromptFile(files.prefix(report, 4, phase)), template: "{{ input }}:" };
      await server.upload(task.id, writePromptFile(prefix));
    }
  });
  afterAll(() => server.close());

  test("a prefix and a soft prompt, for other labels and words", async () => {
    const run = async (settings: object) => {
      const job = await server.job("/tasks/mood/train", { examples, ...still, ...settings });
      expect(job, JSON.stringify(job.error)).toMatchObject({ state: "succeeded" });
      const [version] = job.result.versions;
      const { recipe, length, template } = (await server.get(`/tasks/mood/prompts/${version}`)).body;
      return { recipe, length, template, file: await fileOf(server, "mood", version) };
    };
    const largest = (a: Float32Array, b: Float32Array) =>
      a.reduce((most, value, i) => Math.max(most, Math.abs(value - b[i]!)), 0);

    const prefix = await run(donor("bare", 3));
    const given = (await fileOf(server, "bare", 3)).prefix!;
    expect(prefix).toMatchObject({ length: 4, template: " {{ input }} This is", recipe: donor("bare", 3) });
    expect(largest(prefix.file.prefix!.key, given.key)).toBeLessThan(1e-3);
    expect(largest(prefix.file.prefix!.value, given.value)).toBeLessThan(1e-3);

    const soft = await run({ method: "soft", ...donor("tale", 2) });
    expect(soft.template).toBe("{{ soft(3) }} {{ input }} This is");
    expect(largest(soft.file.soft!.data, (await fileOf(server, "tale", 2)).soft!.data)).toBeLessThan(1e-3);
  });

  test("named candidates, virtual tokens and texts", async () => {
    const both = (version: number) => ["bare", "tale"].map(task => ({ task, version }));
    const soft = await reportOf(server, "mood", { examples, method: "soft", candidates: both(2) });
    expect(namesOf(soft).toSorted()).toEqual(["bare", "examples", "tale"]);
    expect(soft.table.find(({ init }: RankedStart) => init !== "examples")).toMatchObject({ kind: "soft" });

    const texts = examples.slice(0, 10).map(({ input }) => ({ input, output: ` Yes. ${input}` }));
    const report = await reportOf(server, "poem", { examples: texts, candidates: both(3) });
    expect(namesOf(report)).toHaveLength(3);
    expect(report.table.every(({ accuracy }) => accuracy === null)).toBe(true);
  });

  test("what the own start shows is asked of nobody, nor its twins", async () => {
    const twins = [...examples.slice(5, 15), ...examples.slice(5, 15)].map(({ input, label }, index) => ({
      input: index < 10 ? input : `${input} `,
      label,
    }));
    const candidates = [{ task: "bare", version: 3 }];
    const job = await server.job("/tasks/mood/donors", { examples: twins, seed: 5, candidates });
    expect(job, JSON.stringify(job.error)).toMatchObject({ state: "succeeded" });
    const shown = new Set(chosenExamples(twins, 5).map(inputKey));
    const asked = twins.filter(example => !shown.has(inputKey(example))).length;
    expect(job.log.map(({ text }: { text: string }) => text)).toContainEqual(
      `trying 2 starts on up to ${asked} examples`,
    );
    expect(job.result.table[0].examples).toBe(asked);
  });
});

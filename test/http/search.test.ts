/** The search for a hard prompt over HTTP, on the real backbone. */
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { describeBackbone } from "../support/backbone.ts";
import { reviewsOf } from "../support/reviews.ts";
import { expectProblem, startServer, type TestServer } from "./server.ts";

const reviews = reviewsOf(["film", "story", "play", "comedy"]);

describeBackbone("a search over HTTP", backbone => {
  let server: TestServer;
  beforeAll(async () => {
    server = await startServer(backbone, { trainThreads: 2 });
    await server.task({ id: "review", type: "classification", labels: ["positive", "negative"] });
    await server.task({ id: "poem", type: "generation" });
  });
  afterAll(() => server.close());

  const search = (task: string, body: object) => server.post(`/tasks/${task}/search`, body);
  const ended = (task: string, body: object) => server.job(`/tasks/${task}/search`, body);

  test("of texts, finds that worked examples are better than a question", async () => {
    const towns = ["Paris", "Rome", "Berlin", "Madrid", "London", "Vienna", "Dublin", "Oslo"];
    const names = ["Anna", "Peter", "Maria", "Jonas"];
    const examples = towns.flatMap(town =>
      names.map(name => ({ input: `${name} moved to ${town} last year.`, output: town })),
    );
    const { result, error, log } = await ended("poem", { examples, written: 0, budget: 400, keep: 1 });
    expect(error).toBeNull();
    // Texts are raced by how probable the wanted ones are.
    expect(result.metric).toBe("loss");
    const [best] = result.table;
    expect(best).toMatchObject({ rank: 1, source: "examples" });
    // Kept so that larger is better; a right answer costs little, whether a space is before it or not.
    expect(best.validation.value).toBeLessThan(0);
    expect(-best.validation.value).toBeLessThan(0.5);
    // Told as what it is.
    expect(log.map(({ text }: { text: string }) => text)).toContainEqual(
      expect.stringMatching(/^round 1: .* \d+\.\d{4}$/),
    );
    expect(JSON.stringify(log)).not.toMatch(/ -\d+\.\d{4}/);
    expect(result.activated).toBe(false);
    expect((await server.get("/tasks/poem")).body.active).toEqual({ prompt: 1 });
    const { text } = await server.infer("poem", {
      input: "Clara moved to Prague in May.",
      prompt: best.version,
      max_tokens: 6,
    });
    expect(text).toContain("Prague");
  });

  test("ranks candidates of every source; the best becomes a version that answers as it was judged", async () => {
    const mine = {
      name: "mine",
      template: "{{ input }} All in all, it was",
      verbalizers: { positive: " great", negative: [" bad", " terrible"] },
    };
    const job = await ended("review", {
      examples: reviews,
      candidates: [mine],
      written: 2,
      budget: 400,
      keep: 2,
      activate: "if_better",
      seed: 3,
    });
    expect(job, JSON.stringify(job.error)).toMatchObject({ kind: "search", state: "succeeded" });
    const { table, versions, metric, active, validation, activated } = job.result;
    expect(metric).toBe("accuracy");
    expect(table.map(({ rank }: { rank: number }) => rank)).toEqual(
      table.map((_: unknown, i: number) => i + 1),
    );
    const sources = new Set(table.map(({ source }: { source: string }) => source));
    for (const source of ["active", "pattern", "examples", "caller", "verbalizers"])
      expect(sources).toContain(source);
    const [best, second] = table;
    expect(versions).toEqual([best.version, second.version]);
    expect(best.validation.value).toBeGreaterThanOrEqual(second.validation.value);
    expect(best.validation.value).toBe(validation.new);
    expect(validation.new).toBeGreaterThan(0.8);
    expect(table.find(({ name }: { name: string }) => name === "mine")).toMatchObject({
      ...mine,
      source: "caller",
    });

    const kept = (await server.get(`/tasks/review/prompts/${best.version}`)).body;
    expect(kept).toMatchObject({
      kind: "hard",
      template: best.template,
      // What was active before is no new version.
      name: best.source === "active" ? null : best.name,
      length: best.length,
    });
    expect(kept.verbalizers).toEqual(best.verbalizers);
    expect(activated).toBe(validation.p_value < 0.05);
    await server.put("/tasks/review/active", active);
    // What was raced and judged is what callers get: the whole of the examples scores about as its validation did.
    const { results } = await server.infer("review", { inputs: reviews.map(({ input }) => input) });
    const right = results.filter(({ label }: { label: string }, i: number) => label === reviews[i]!.label);
    expect(right.length / reviews.length).toBeGreaterThan(best.validation.low);
  });

  describe("what cannot be searched", () => {
    const examples = reviews;
    test.each<[string, string, object, string]>([
      ["no data", "review", {}, "validation"],
      ["one class", "review", { examples: examples.slice(0, 10) }, "bad_dataset"],
      [
        "a candidate without a field",
        "review",
        { examples, candidates: [{ template: "x" }] },
        "bad_template",
      ],
      [
        "a candidate with another field",
        "review",
        { examples, candidates: [{ template: "{{ text }}:" }] },
        "validation",
      ],
      [
        "a candidate with soft slots",
        "review",
        { examples, candidates: [{ template: "{{ soft(2) }}{{ input }}" }] },
        "validation",
      ],
      [
        "verbalizers that are the same",
        "review",
        {
          examples,
          candidates: [{ template: "{{ input }}:", verbalizers: { positive: " x", negative: " x" } }],
        },
        "duplicate_verbalizer",
      ],
      [
        "accuracy of texts",
        "poem",
        { examples: [{ input: "x", output: "y" }], metric: "accuracy" },
        "validation",
      ],
      ["a budget of nothing", "review", { examples, budget: 1 }, "validation"],
    ])("%s", async (_, task, body, code) => {
      expectProblem(await search(task, body), 422, code);
    });
  });
});

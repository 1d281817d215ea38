import { afterAll, beforeAll, expect, test } from "vitest";
import type { InferReply } from "../../src/contract/infer.ts";
import { pick } from "../../src/server/routing.ts";
import { describeShallow } from "../support/shallow.ts";
import { expectProblem, files, startServer, type TestServer } from "./server.ts";

const part = (prompt: number, weight: number) => [{ prompt, weight }];

describeShallow("what answers, over HTTP", path => {
  let server: TestServer;
  const input = "The plot was thin, but I laughed.";
  const single: Record<number, Record<string, number>> = {};

  beforeAll(async () => {
    // At fp32 an answer is the same to 1e-5 whatever is in its batch.
    server = await startServer(path, { precision: "fp32" });
    const backbone = await server.backbone();
    await server.task({
      id: "mood",
      labels: ["positive", "negative"],
      prompt: { template: "Review: {{ input }}\nSentiment:" },
    });
    await server.post("/tasks/mood/prompts", { template: "{{ input }}\nIt was" });
    await server.upload("mood", files.soft(backbone));
    await server.upload("mood", files.prefix(backbone));
    // A text fills one field, whatever its name; not two.
    await server.post("/tasks/mood/prompts", { template: "{{ text }}\nSo it was" });
    await server.post("/tasks/mood/prompts", { template: "{{ input }} and {{ other }}\nSo it was" });
    for (const version of [1, 2, 3, 4])
      single[version] = (await server.infer("mood", { input, prompt: version, scores: "all" })).scores;
  });
  afterAll(() => server.close());

  const activate = async (active: object) => {
    const answer = await server.put("/tasks/mood/active", active);
    expect(answer, JSON.stringify(answer.body)).toMatchObject({ status: 200, body: { active } });
  };
  const versions = [1, 2, 3, 4];
  const winner = (scores: Record<string, number>) =>
    scores.positive! > scores.negative! ? "positive" : "negative";

  test("mean, majority and weighted votes are what their members' own answers give", async () => {
    const mean = versions.reduce((sum, version) => sum + single[version]!.positive! / 4, 0);
    await activate({ ensemble: versions, vote: "mean" });
    const reply = await server.infer("mood", { input, scores: "all", members: true });
    expect(reply.scores.positive).toBeCloseTo(mean, 5);
    expect(reply.prompt).toEqual({ ensemble: versions, vote: "mean" });
    const members = reply.members as NonNullable<InferReply["members"]>;
    expect(members.map(member => member.version)).toEqual(versions);
    for (const { version, label, scores } of members) {
      expect(label).toBe(winner(single[version]!));
      expect(scores.positive).toBeCloseTo(single[version]!.positive!, 5);
    }
    const same = versions.filter(version => winner(single[version]!) === reply.label).length;
    expect(reply.agreement).toBe(same / 4);

    await activate({ ensemble: versions, vote: "majority" });
    const votes = versions.filter(version => winner(single[version]!) === "positive").length;
    const majority = await server.infer("mood", { input, scores: "all" });
    expect(majority.scores.positive).toBe(votes / 4);

    await activate({ ensemble: [1, 2], vote: "weighted", weights: [3, 1] });
    const weighted = await server.infer("mood", { input, scores: "all" });
    expect(weighted.scores.positive).toBeCloseTo(
      0.75 * single[1]!.positive! + 0.25 * single[2]!.positive!,
      5,
    );
  });

  test("targets of a vote are as probable as its members find them on average", async () => {
    const targets = [" positive", " rather good"];
    const of = async (prompt: unknown) =>
      (await server.infer("mood", { input, prompt, targets })).targets.map(
        ({ logprob }: { logprob: number }) => Math.exp(logprob),
      ) as number[];
    const [one, two] = [await of(1), await of(2)];
    for (const vote of ["mean", "majority"])
      for (const [at, p] of (await of({ ensemble: [1, 2], vote })).entries())
        expect(p / ((one[at]! + two[at]!) / 2)).toBeCloseTo(1, 3);
    for (const [at, p] of (await of({ ensemble: [2, 1], vote: "weighted", weights: [1, 3] })).entries())
      expect(p / (0.75 * one[at]! + 0.25 * two[at]!)).toBeCloseTo(1, 3);
  });

  test("temperature, bias and the threshold of doubt", async () => {
    await activate({ prompt: 1, temperature: 2 });
    const { positive, negative } = single[1]! as { positive: number; negative: number };
    const softened = await server.infer("mood", { input, scores: "all" });
    expect(softened.scores.positive).toBeCloseTo(
      Math.sqrt(positive) / (Math.sqrt(positive) + Math.sqrt(negative)),
      5,
    );
    await activate({ prompt: 1, bias: { negative: 50 } });
    expect((await server.infer("mood", { input })).label).toBe("negative");
    await activate({ prompt: 1, unsure_below: 1 });
    const unsure = await server.infer("mood", { input });
    expect(unsure.label).toBeNull();
    expect(Object.values(unsure.scores)[0]).toBeCloseTo(Math.max(positive, negative), 5);
  });

  test("a split keeps its shares, and a route key its prompt", async () => {
    await activate({
      split: [
        { prompt: 1, weight: 3 },
        { prompt: 2, weight: 1 },
      ],
    });
    const chosen = async (key: string): Promise<number> =>
      (await server.infer("mood", { input: "ok", route_key: key })).prompt.version;
    expect(new Set(await Promise.all(Array.from({ length: 6 }, () => chosen("anna")))).size).toBe(1);
    const keys = Array.from({ length: 120 }, (_, index) => `user-${index}`);
    const first = (await Promise.all(keys.map(chosen))).filter(version => version === 1).length;
    // 90 are expected, with a standard deviation of 4.7.
    expect(first).toBeGreaterThan(70);
    expect(first).toBeLessThan(110);
  });

  test("every input of a list with a key comes to one version, which is counted", async () => {
    const split = [
      { prompt: 1, weight: 1 },
      { prompt: 2, weight: 1 },
    ];
    await activate({ split });
    const count = (version: number) =>
      server.metric(`foreword_split_answers_total{task="mood",version="${version}"}`);
    const before = [(await count(1)) || 0, (await count(2)) || 0] as const;
    const inputs = Array.from({ length: 8 }, () => "ok");
    const { results } = await server.infer("mood", { inputs, route_key: "ben" });
    const versions = new Set(
      results.map((reply: InferReply) => (reply.prompt as { version: number }).version),
    );
    expect(versions).toEqual(new Set([pick("mood", split, "ben")]));
    const after = [(await count(1)) || 0, (await count(2)) || 0] as const;
    const [version] = versions as Set<1 | 2>;
    expect(after[version! - 1]! - before[version! - 1]!).toBe(8);
    expect(after[0] + after[1] - before[0] - before[1]).toBe(8);
  });

  test("a shadow answers too, never shows, and its agreement is told", async () => {
    const inputs = ["Wonderful.", "Dreadful, dull and long.", "It was fine.", "ok", "Never again!"];
    const labels = async (prompt: number): Promise<string[]> =>
      (await server.infer("mood", { inputs, prompt })).results.map((reply: InferReply) => reply.label);
    const [one, other] = [await labels(1), await labels(4)];
    const agreed = one.filter((label, index) => label === other[index]).length;

    await activate({ prompt: 1, bias: { negative: 0 }, shadow: { prompt: 4, share: 1 } });
    const shadow = async () => (await server.get("/tasks/mood/shadow")).body;
    expect(await shadow()).toMatchObject({ compared: 0, agreement: null, shadow: { prompt: 4, share: 1 } });
    const { results } = await server.infer("mood", { inputs });
    expect(results.map((reply: InferReply) => reply.label)).toEqual(one);
    for (const reply of results) {
      expect(reply.prompt).toEqual({ version: 1, kind: "hard" });
    }
    // A request that names its prompt asks for nothing else.
    await server.infer("mood", { inputs, prompt: 2 });
    await expect.poll(async () => (await shadow()).compared).toBe(inputs.length);
    expect(await shadow()).toMatchObject({
      agreed,
      agreement: agreed / inputs.length,
      failed: 0,
      dropped: 0,
    });
    expect(
      await server.metric('foreword_shadow_answers_total{task="mood",version="4",outcome="agreed"'),
    ).toBe(agreed);

    await activate({ prompt: 1, shadow: { prompt: 4, share: 0 } });
    await server.infer("mood", { inputs });
    expect(await shadow()).toMatchObject({ compared: 0, shadow: { share: 0 } });
  });

  test("a shadow that can't answer, or is not asked in time, costs the caller nothing", async () => {
    await server.post("/tasks/mood/prompts", { template: "{{ other }}\nIt was" });
    const { items } = (await server.get("/tasks/mood/prompts?limit=1000")).body;
    await activate({ prompt: 1, shadow: { prompt: items.at(-1).version, share: 1 } });
    expect((await server.infer("mood", { input: { input: "ok" } })).prompt.version).toBe(1);
    const shadow = async () => (await server.get("/tasks/mood/shadow")).body;
    await expect.poll(async () => (await shadow()).failed).toBe(1);
    expect((await shadow()).last_failure).toMatch(/other/);

    // More than may wait come at once: the rest is dropped, and every caller is answered.
    await activate({ prompt: 1, shadow: { prompt: 2, share: 1 } });
    const inputs = Array.from({ length: 100 }, (_, index) => `${index}`);
    const replies = await Promise.all([1, 2, 3, 4].map(() => server.infer("mood", { inputs })));
    for (const { results } of replies)
      expect(results.every((reply: InferReply) => reply.label !== undefined)).toBe(true);
    const done = async () => {
      const { compared, dropped } = await shadow();
      return compared + dropped;
    };
    await expect.poll(done, { timeout: 60_000 }).toBe(400);
    expect((await shadow()).dropped).toBeGreaterThan(0);
  });

  test("the history lists activations, and a roll-back is one more", async () => {
    await activate({ prompt: 2 });
    await activate({ prompt: 1 });
    const { items } = (await server.get("/tasks/mood/history?limit=3")).body;
    expect(items[0]).toMatchObject({ active: { prompt: 1 }, by: "anonymous", at: expect.any(String) });
    expect(items[1]).toMatchObject({ active: { prompt: 2 } });
    expect(items[0].revision).toBe(items[1].revision + 1);
  });

  test("If-Match guards the active record", async () => {
    const shown = await server.get("/tasks/mood/active");
    const etag = { "if-match": shown.headers.get("etag")! };
    expect((await server.put("/tasks/mood/active", { prompt: 2 }, etag)).status).toBe(200);
    expectProblem(await server.put("/tasks/mood/active", { prompt: 1 }, etag), 412, "revision_conflict");
    const { prompts } = (await server.get("/tasks/mood")).body;
    const added = await server.post("/tasks/mood/prompts?activate=true", { template: "{{ input }}:" }, etag);
    expectProblem(added, 412, "revision_conflict");
    expectProblem(
      await server.post("/tasks/mood/prompts", { template: "{{ input }}:" }, etag),
      412,
      "revision_conflict",
    );
    expectProblem(
      await server.call("DELETE", "/tasks/mood/prompts/1", undefined, etag),
      412,
      "revision_conflict",
    );
    expect((await server.get("/tasks/mood/prompts/1")).status).toBe(200);
    expect((await server.get("/tasks/mood")).body).toMatchObject({ prompts, active: { prompt: 2 } });
  });

  test.each<[string, object, number, string]>([
    ["a version that is not there", { prompt: 99 }, 404, "prompt_not_found"],
    ["nothing", {}, 422, "validation"],
    ["two ways at once", { prompt: 1, ensemble: [1, 2] }, 422, "validation"],
    ["an ensemble of one", { ensemble: [1] }, 422, "validation"],
    ["weights of a vote that has none", { ensemble: [1, 2], weights: [1, 2] }, 422, "validation"],
    ["weights that do not fit", { ensemble: [1, 2], vote: "weighted", weights: [1] }, 422, "validation"],
    ["weights that are all 0", { ensemble: [1, 2], vote: "weighted", weights: [0, 0] }, 422, "validation"],
    ["a version twice in an ensemble", { ensemble: [1, 2, 1] }, 422, "validation"],
    ["an ensemble of other fields", { ensemble: [1, 6] }, 422, "validation"],
    ["a split of other fields", { split: part(1, 1).concat(part(6, 1)) }, 422, "validation"],
    ["a shadow of other fields", { prompt: 1, shadow: { prompt: 6, share: 1 } }, 422, "validation"],
    ["a vote of one prompt", { prompt: 1, vote: "mean" }, 422, "validation"],
    ["a temperature of 0", { prompt: 1, temperature: 0 }, 422, "validation"],
    ["a bias for no label", { prompt: 1, bias: { neutral: 1 } }, 422, "validation"],
    ["a split of weights that are all 0", { split: part(1, 0).concat(part(2, 0)) }, 422, "validation"],
    ["a split with a weight below 0", { split: part(1, -1).concat(part(2, 1)) }, 422, "validation"],
    ["a split of one", { split: part(1, 1) }, 422, "validation"],
    ["a version twice in a split", { split: part(1, 1).concat(part(1, 2)) }, 422, "validation"],
    [
      "a version of a split that is not there",
      { split: part(1, 1).concat(part(99, 0)) },
      404,
      "prompt_not_found",
    ],
    ["a split of ensembles", { split: [{ ensemble: [1, 2], weight: 1 }, ...part(3, 1)] }, 422, "validation"],
    ["an ensemble of splits", { ensemble: [1, { split: part(1, 1) }] }, 422, "validation"],
    ["a shadow of itself", { prompt: 1, shadow: { prompt: 1, share: 1 } }, 422, "validation"],
    ["a share above 1", { prompt: 1, shadow: { prompt: 2, share: 1.1 } }, 422, "validation"],
    ["a shadow that is not there", { prompt: 1, shadow: { prompt: 99, share: 1 } }, 404, "prompt_not_found"],
  ])("refused: %s", async (_, active, status, code) => {
    expectProblem(await server.put("/tasks/mood/active", active), status, code);
    expect((await server.get("/tasks/mood/prompts/6")).body.template).toContain("{{ other }}");
  });
});

/** Verbalizers that are too many characters together hold the engine up for all: they are refused wherever they come from. */
import { afterAll, beforeAll, expect, test } from "vitest";
import { type TinyBackbone, tinyBackbone } from "../support/tiny.ts";
import { expectProblem, startServer, type TestServer } from "./server.ts";

/** A context of 128 positions, 64 characters for each. */
const MOST = 64 * 128;
let backbone: TinyBackbone;
let server: TestServer;
beforeAll(async () => {
  backbone = await tinyBackbone("llama", false);
  server = await startServer(backbone.path);
});
afterAll(async () => {
  await server.close();
  await backbone.remove();
});

/** 64 different texts. */
const texts = (characters: number): string[] =>
  Array.from({ length: 64 }, (_, at) => `${10 + at}`.padEnd(characters / 64, "a"));
const refused = (answer: Awaited<ReturnType<TestServer["post"]>>) =>
  expectProblem(answer, 422, "validation", {
    field: "labels",
    detail: expect.stringMatching(
      new RegExp(`^labels: their verbalizers have \\d+ characters together, and may have ${MOST}\\. Give`),
    ),
  });

test("in a new task, in a changed one, and in a prompt", async () => {
  const some = { good: texts(MOST / 2), bad: [" b"] };
  const many = { good: texts(MOST), bad: [" b"] };
  refused(await server.post("/tasks", { id: "mood", labels: many }));
  await server.task({ id: "mood", labels: some });
  refused(await server.call("PATCH", "/tasks/mood", { labels: many }));
  const prompt = { kind: "hard", template: "{{ input }} is" };
  refused(await server.post("/tasks/mood/prompts", { ...prompt, verbalizers: { good: texts(MOST) } }));
  // All labels count, not only those that the prompt spells.
  refused(
    await server.post("/tasks/mood/prompts", { ...prompt, verbalizers: { bad: texts(MOST / 2 + 64) } }),
  );
  const made = await server.post("/tasks/mood/prompts", { ...prompt, verbalizers: { bad: [" c"] } });
  expect(made.status).toBe(201);
});

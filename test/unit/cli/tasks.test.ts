import { expect, test } from "vitest";
import { tasks } from "../../../src/cli/tasks.ts";
import { run } from "./command.ts";

const create = (...args: string[]) => run(tasks(), ["create", ...args], { reply: { id: "t", prompts: 1 } });

test("labels make a classification, and may hold commas; what is empty goes to the server, which refuses it", async () => {
  const { body } = await create("t", "--labels", "a, of course", "b", "--template", "", "--description", "");
  expect(body).toEqual({
    id: "t",
    type: "classification",
    labels: ["a, of course", "b"],
    description: "",
    prompt: { kind: "hard", template: "" },
  });
  expect((await create("t")).body).toEqual({ id: "t", type: "generation" });
});

test("one label with a comma was meant as several: nothing is made, and how to write it is said", async () => {
  const { body, error } = await create("t", "--labels", "bug, it's fine");
  expect(body).toBeUndefined();
  expect(error!.message).toMatch(
    /^--labels: "bug, it's fine" is one label.* --labels 'bug' 'it'\\''s fine'$/,
  );
});

test("an id behind the labels became one: the refusal says so, and only then", async () => {
  const { err } = await create("--labels", "a", "b", "ticket");
  expect(err).toMatch(/missing required argument 'id'\n.*put the id first.*create ticket --labels/);
  expect((await create()).err).toBe("error: missing required argument 'id'\n");
});

/** Requests, checked and completed before anything else is asked. */
import { expect, test } from "vitest";
import type { Task } from "../../../src/contract/task.ts";
import { checkRequest } from "../../../src/server/answer.ts";
import { startTemplate } from "../../../src/server/train-request.ts";

test("no stop text at all is none beside choices or a schema", () => {
  const task = { type: "generation" } as Task;
  for (const kind of [{ choices: ["a"] }, { json_schema: { type: "object" } }]) {
    checkRequest(task, { input: "x", stop: [], ...kind });
    expect(() => checkRequest(task, { input: "x", stop: ["."], ...kind })).toThrow(/^stop: /);
  }
});

test("a template to train with loses the blank that its labels bring, as a prompt's does", async () => {
  const made = async (labels: Task["labels"]) =>
    (await startTemplate({} as never, { labels } as Task, "Say {{ input }}\nSo: ")).template;
  expect(await made(["yes", "no"])).toBe("Say {{ input }}\nSo:");
  expect(await made({ yes: "yes", no: "no" })).toBe("Say {{ input }}\nSo: ");
  expect(await made(null)).toBe("Say {{ input }}\nSo: ");
});

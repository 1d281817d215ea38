/** A group of commands takes what it does not know for the arguments of its `list`: whoever mistyped one is told so. */
import { expect, test } from "vitest";
import { datasets } from "../../../src/cli/datasets.ts";
import { jobs } from "../../../src/cli/jobs.ts";
import { prompts } from "../../../src/cli/prompts.ts";
import { tasks } from "../../../src/cli/tasks.ts";
import { run } from "./command.ts";

test.each([
  [jobs(), ["cancle", "abc"]],
  [datasets(), ["ad", "reviews.csv"]],
  [prompts(), ["shwo", "sentiment", "1"]],
  [tasks(), ["crate", "ticket", "--labels", "bug", "praise"]],
])("a mistyped command is no argument of list", async (group, args) => {
  const { body, err } = await run(group, args);
  expect(err).toBe(
    `error: unknown command '${args[0]}'\n(foreword ${group.name()} --help lists the commands)\n`,
  );
  expect(body).toBeUndefined();
});

test("a command that is there, behind its flags, is not called unknown", async () => {
  expect((await run(jobs(), ["--json", "watch", "abc"])).err).toMatch(
    /^error: flags go behind the command, as in: foreword jobs watch /,
  );
});

test.each([
  [jobs(), ["list", "abc"], /^error: too many arguments for 'list'/],
  [tasks(), ["--jsn"], /^error: unknown option '--jsn'\n.*--json/],
  [prompts(), ["sentiment", "--jsn"], /^error: unknown option '--jsn'\n.*--json/],
  [prompts(), ["list"], /^error: missing required argument 'task'/],
])("what list refuses is told as it is", async (group, args, message) => {
  expect((await run(group, args)).err).toMatch(message);
});

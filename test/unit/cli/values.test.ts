import { execFileSync } from "node:child_process";
import { expect, test } from "vitest";
import { activating, activeOf, contendersOf, refsOf } from "../../../src/cli/values.ts";
import type { Active } from "../../../src/contract/task.ts";

test.each<[Active, string | null]>([
  [{ prompt: 3 }, "3"],
  [{ ensemble: [2, 3, 4] }, "2+3+4"],
  [{ ensemble: [2, 3], vote: "majority" }, "2+3:majority"],
  [{ ensemble: [2, 3], vote: "weighted", weights: [0.25, 0.75] }, null],
  [{ prompt: 3, bias: { "it's $HOME `x`": 0.5, 'a "b"\\n': -1 } }, null],
])("what a shell reads of the command that activates %j is that record", (active, short) => {
  const command = activating("task", active);
  if (short !== null) expect(command).toBe(`foreword prompts activate task ${short}`);
  const read = execFileSync("bash", ["-c", `foreword() { printf %s "$4"; }; ${command}`], {
    encoding: "utf8",
  });
  expect(activeOf(read)).toEqual(active);
});

test.each(["1,2", "one", "{", "2+3:best"])("%s activates nothing", text => {
  expect(() => activeOf(text)).toThrow(/^It takes|^It is no JSON|^One alone/);
});

test("a list's flag that is given again goes on with the list", () => {
  expect(contendersOf("2+3:mean,4", contendersOf("active,1"))).toEqual([
    "active",
    1,
    { ensemble: [2, 3], vote: "mean" },
    4,
  ]);
  const [a, b] = [
    { task: "a", version: 1 },
    { task: "b", version: 2 },
  ];
  expect(refsOf("b/2", refsOf("a/1"))).toEqual([a, b]);
});

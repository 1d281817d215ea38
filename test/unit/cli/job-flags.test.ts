/** What the commands that start jobs ask for: each flag as the API calls it, and nothing that was not typed. */
import { expect, test } from "vitest";
import { search } from "../../../src/cli/search.ts";
import { train } from "../../../src/cli/train.ts";
import { run } from "./command.ts";

const data = ["review", "reviews", "--dataset", "--detach"];
const commands = { search, train };
const none = "--no-patterns --written 0 --keep 3 --no-verbalizers --budget 200";

test.each<[keyof typeof commands, string, object]>([
  ["search", "", {}],
  ["search", none, { patterns: false, written: 0, keep: 3, verbalizers: false, budget: 200 }],
  ["search", "--metric loss --seed 0 --if-better", { metric: "loss", seed: 0, activate: "if_better" }],
  ["train", "", {}],
  [
    "train",
    "--method distill --teacher 2 --on house/1",
    { method: "distill", teacher: 2, on: { task: "house", version: 1 } },
  ],
  [
    "train",
    "--ensemble 3 --vote weighted --batch-size 4 --activate",
    { ensemble: { members: 3, vote: "weighted" }, batch_size: 4, activate: true },
  ],
])("%s %s", async (name, flags, asked) => {
  const args = [...data, ...flags.split(" ").filter(Boolean)];
  const { body, out, error } = await run(commands[name](), args, { reply: { id: "job-1" } });
  expect([error, out]).toEqual([null, "job-1\n"]);
  expect(body).toEqual({ dataset: "reviews", ...asked });
});

import { expect, test } from "vitest";
import { infer } from "../../../src/cli/infer.ts";
import { run } from "./command.ts";

const ask = (args: readonly string[], options?: Parameters<typeof run>[2]) => run(infer(), args, options);

test("the label alone; with --scores the probabilities too, best first", async () => {
  const reply = { label: "good", scores: { 1: 0.05, bad: 0.00004, good: 0.94996 } };
  expect((await ask(["t", "x"], { reply })).out).toBe("good\n");
  const { body, out } = await ask(["t", "x", "--scores", "all"], { reply });
  expect(body).toEqual({ input: "x", scores: "all" });
  expect(out).toBe(
    ["good", "", "label  probability", "good   0.9500", "1      0.0500", "bad    0.0000", ""].join("\n"),
  );
  expect((await ask(["t", "x", "--scores", "top"], { reply: { text: "Once" } })).out).toBe("Once\n");
});

test("a text that was cut is told, beside it; programs read it in the reply", async () => {
  const reply = { text: "Once", finish_reason: "length", usage: { output_tokens: 64 } };
  const cut = await ask(["t", "x"], { reply });
  expect([cut.out, cut.err]).toEqual([
    "Once\n",
    expect.stringMatching(/^cut after 64 tokens; --max-tokens .*\n$/),
  ]);
  expect((await ask(["t", "x", "--json"], { reply })).err).toBe("");
  expect((await ask(["t", "x"], { reply: { ...reply, finish_reason: "stop" } })).err).toBe("");
});

test("- is standard input, without a byte order mark and the end of its last line; --text says that it is none", async () => {
  const asked = async (args: string[], input: string) => (await ask(args, { input })).body;
  expect(await asked(["t", "-"], "\ufeffEin Film,\nüber den…\r\n")).toEqual({
    input: "Ein Film,\nüber den…",
  });
  expect(await asked(["t", "-"], '{"question": "why?"}\n')).toEqual({ input: { question: "why?" } });
  expect(await asked(["t", "-", "--text"], "no")).toEqual({ input: "-" });
  const { body, error } = await ask(["t", "-"], { input: Buffer.from("über", "latin1") });
  expect([body, error!.message]).toEqual([
    undefined,
    "Standard input can't be read (it is no UTF-8: save it as UTF-8).",
  ]);
});

test("what begins with - goes behind --, and the refusal says so; of a flag that is spelt wrong it says that", async () => {
  expect((await ask(["t", "--", "-1 star"])).body).toEqual({ input: "-1 star" });
  expect((await ask(["t", "-1 star"])).err).toMatch(
    /unknown option '-1 star'\n.*behind --.* -- "-1 star"\n$/,
  );
  expect((await ask(["t", "x", "--score", "all"])).err).toMatch(/Did you mean --scores\?\)\n$/);
});

test.each([
  ["--max-tokens", "abc", /takes a number/],
  ["--max-tokens", "", /takes a number/],
  ["--scores", "best", /Allowed choices are top, all/],
  ["--scores", "", /Allowed choices are top, all/],
])("%s %j is refused, and nothing is asked", async (flag, value, message) => {
  const { body, err } = await ask(["t", "x", flag, value]);
  expect(err).toMatch(message);
  expect(body).toBeUndefined();
});

test("--max-tokens is a number, also where it is one that the server refuses", async () => {
  expect((await ask(["t", "x", "--max-tokens", "0"])).body).toEqual({ input: "x", max_tokens: 0 });
});

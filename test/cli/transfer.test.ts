/** similarity, donors and what positions do, as a person types them, beside a server on the real backbone. */
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { startServer, type TestServer } from "../http/server.ts";
import { describeBackbone } from "../support/backbone.ts";
import { foreword } from "../support/command.ts";
import { reviewsOf } from "../support/reviews.ts";

describeBackbone("transfer on the command line", path => {
  let server: TestServer;
  let folder: string;
  let to: string[];

  beforeAll(async () => {
    server = await startServer(path, { trainThreads: 2 });
    to = ["--server", server.url];
    folder = await mkdtemp(join(tmpdir(), "foreword-cli-"));
    const rows = reviewsOf(["film"]).map(row => `${JSON.stringify(row)}\n`);
    await writeFile(join(folder, "train.jsonl"), rows.join(""));
    const labels = ["positive", "negative"];
    await server.task({ id: "review", labels, prompt: { template: "Somebody said: {{ input }} This is" } });
  });
  afterAll(async () => {
    await server.close();
    await rm(folder, { recursive: true, force: true });
  });

  async function ok(...args: string[]): Promise<string> {
    const ended = await foreword([...args, ...to]);
    expect(ended.code, ended.err).toBe(0);
    return ended.out;
  }

  test("similarity: a table for each kind", async () => {
    const out = await ok("similarity", "sentiment", "spam");
    expect(out).toMatch(
      /^soft\n +prompt +1 +2\n1 +sentiment\/2 +1\.000 +0\.\d{3}\n2 +spam\/2 +0\.\d{3} +1\.000\n\nprefix\n/,
    );
    const { groups } = JSON.parse(await ok("similarity", "sentiment", "spam", "--kind", "prefix", "--json"));
    expect(groups).toHaveLength(1);
    expect(await ok("similarity", "review")).toBe("no trained prompt is there to compare\n");
  });

  test("prompts nearest and attention: a line a position", async () => {
    const near = await ok("prompts", "nearest", "sentiment", "2", "--count", "2");
    expect(near.match(/^\d+ +\d+\.\d\d +".*" 0\.\d{3} {2}".*" 0\.\d{3}$/gm)).toHaveLength(64);
    const seen = await ok("prompts", "attention", "sentiment", "3", "A warm film.", "Dull.");
    expect(seen).toMatch(
      /^The 16 of 64 positions.*\nposition +by all tokens +by the last one\n0 +trained +\d/,
    );
    expect(seen).toMatch(/All positions together get \d+\.\d % of what \d+ tokens of 2 inputs/);
    // A line a layer, a column a position.
    expect(seen.match(/^ *\d+ [ ░▒▓█]{64}$/gm)).toHaveLength(30);
    const prefix = await foreword(["prompts", "nearest", "sentiment", "3", ...to]);
    expect([prefix.code, prefix.err]).toEqual([1, expect.stringMatching(/is a prefix.*attention\.\n$/)]);
  });

  test("donors: ranked starts, with the command that trains from the best", async () => {
    const data = join(folder, "train.jsonl");
    const out = await ok("donors", "review", data, "--candidates", "sentiment/3,spam/3");
    expect(out).toMatch(/^ +start +kind +loss before training +accuracy +examples\n1 +/);
    expect(out.match(/^\d +(examples|prompt:(sentiment|spam)\/3 +prefix) +\d/gm)).toHaveLength(3);
    expect(out).toMatch(
      /^train from the best: foreword train review <data> --init (prompt:\w+\/3|examples)$/m,
    );
    const wrong = await foreword(["donors", "review", data, "--candidates", "sentiment", ...to]);
    expect([wrong.code, wrong.err]).toEqual([1, expect.stringMatching(/<task>\/<version>/)]);
  });
});

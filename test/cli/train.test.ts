/** train, jobs and datasets, as a person types them, beside a server. */
import type { ChildProcess } from "node:child_process";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { startServer, type TestServer } from "../http/server.ts";
import { foreword } from "../support/command.ts";
import { reviewsOf } from "../support/reviews.ts";
import { describeShallow } from "../support/shallow.ts";

const MINUTES = 60_000;
const labels = ["positive", "negative"];
const rows = [
  ["A warm and funny film.", "positive"],
  ["Dull from start to end.", "negative"],
  ["I want to see it again.", "positive"],
  ["The plot makes no sense.", "negative"],
  ["Dull from start to end.", "negative"],
].map(([input, label]) => ({ input, label }));
const ndjson = rows.map(row => `${JSON.stringify(row)}\n`).join("");
const dev = `input,label\nCharming and clever.,positive\n"Boring,\nlong and loud.",negative\n${rows[0]!.input},positive\n`;
const quick = ["--steps", "4", "--length", "8", "--batch-size", "4", "--seed", "4"];

describeShallow("training on the command line", path => {
  let server: TestServer;
  let folder: string;
  let to: string[];
  const key = "a key of this test";

  beforeAll(async () => {
    server = await startServer(path, { adminKey: key });
    to = ["--server", server.url, "--key", key];
    folder = await mkdtemp(join(tmpdir(), "foreword-cli-"));
    await writeFile(join(folder, "train.jsonl"), ndjson);
    await writeFile(join(folder, "dev.CSV"), dev);
    await server.task({
      id: "review",
      type: "classification",
      labels,
      prompt: { template: "Review: {{ input }}\nSentiment:" },
    });
  });
  afterAll(async () => {
    await server.close();
    await rm(folder, { recursive: true, force: true });
  });

  const file = (name: string) => join(folder, name);
  async function ok(...args: string[]) {
    const ended = await foreword([...args, ...to]);
    expect(ended.code, ended.err).toBe(0);
    return ended;
  }
  const json = async (...args: string[]) => JSON.parse((await ok(...args, "--json")).out);
  const job = async (id: string) => (await server.get(`/jobs/${id}`)).body;

  test(
    "datasets: added from a file and from standard input, listed, shown, deleted",
    async () => {
      const added = await ok("datasets", "add", file("train.jsonl"), "--id", "reviews");
      expect(added.out).toMatch(/5 examples, data set reviews\n {2}1 repeat an earlier one: line 5\n/);
      const piped = await foreword(
        ["datasets", "add", "-", "--format", "csv", "--against", "reviews", ...to, "--json"],
        {
          input: dev,
        },
      );
      expect(JSON.parse(piped.out)).toMatchObject({ rows: 3, leaks: { count: 1, lines: [5] } });
      const [listed, items, shown] = await Promise.all([
        ok("datasets"),
        json("datasets"),
        ok("datasets", "show", "reviews"),
      ]);
      expect(listed.out).toMatch(/^reviews +5 +2 +\d{4}-/m);
      expect(items.items).toHaveLength(2);
      expect(shown.out).toMatch(/^rows +5$[\s\S]*^positive +2$[\s\S]*^negative +3$/m);
      expect(await json("datasets", "delete", "reviews")).toEqual({ deleted: "reviews" });
      const gone = await foreword(["datasets", "show", "reviews", ...to]);
      expect([gone.code, gone.err]).toEqual([1, expect.stringMatching(/no data set "reviews"/)]);
      const broken = await foreword(["datasets", "add", "-", ...to], { input: '{"input":"x"}\n' });
      expect([broken.code, broken.err]).toEqual([1, expect.stringMatching(/^Line 1: /)]);
    },
    2 * MINUTES,
  );

  test(
    "train: from a file to an active prompt, with its remarks, its curve and both scores",
    async () => {
      const { out, err } = await ok(
        ...["train", "review", file("train.jsonl"), "--validation", file("dev.CSV"), ...quick],
        ...["--init", "text:A review of a film.", "--activate"],
      );
      expect(err).toMatch(
        /train\.jsonl: 5 examples, data set data-[0-9a-f]{12}\n {2}1 repeat an earlier one: line 5/,
      );
      expect(err).toMatch(
        /dev\.CSV: 3 examples[\s\S]*1 are trained on too, and are left out of validation: line 5/,
      );
      expect(err).toMatch(/^step 4\/4, loss \d\.\d+$/m);
      expect(out).toMatch(/\d\.\d{3} [┤┼][\s\S]*step 1 +4\n/);
      expect(out).toMatch(
        /^accuracy on 2 validation examples: version 2 [01]\.\d{4}, what was active [01]\.\d{4} \(p /m,
      );
      expect(out).toMatch(/^version 2 answers for review now$/m);
      expect((await server.infer("review", { input: "Fine." })).prompt).toEqual({
        version: 2,
        kind: "prefix",
      });
      const { recipe } = (await server.get("/tasks/review/prompts/2")).body;
      expect(recipe).toMatchObject({
        ...{ steps: 4, batchSize: 4, seed: 4 },
        init: { text: "A review of a film." },
      });
    },
    2 * MINUTES,
  );

  test(
    "--json prints the job alone; every flag reaches the server, a data set's id too",
    async () => {
      await ok("datasets", "add", file("train.jsonl"), "--id", "kept");
      const flags = [
        "--validation",
        "0.4",
        "--method",
        "soft",
        "--learning-rate",
        "0.01",
        "--max-tokens",
        "50",
      ];
      const reply = await foreword([
        "train",
        "review",
        "kept",
        "--dataset",
        ...flags,
        "--metric",
        "macro_f1",
        "--init",
        "labels",
        ...quick,
        ...to,
        "--json",
      ]);
      expect([reply.code, reply.err]).toEqual([0, ""]);
      const ended = JSON.parse(reply.out);
      expect(ended).toMatchObject({ state: "succeeded", result: { versions: [3], activated: false } });
      const prompt = (await server.get("/tasks/review/prompts/3")).body;
      expect(prompt).toMatchObject({
        kind: "soft",
        recipe: { method: "soft", learningRate: 0.01, max_tokens: 50, init: "labels" },
        // One input of each label, of which one is there twice and counts once.
        metrics: { metric: "macro_f1", validation_examples: 2 },
      });
      const [shown, listed] = [
        await ok("jobs", "show", ended.id),
        await ok("jobs", "list", "--task", "review"),
      ];
      expect(shown.out).toMatch(
        /^state +succeeded$[\s\S]*^steps +4\/4$[\s\S]*Z {2}training 8 positions on 2 examples: 4 steps of 2, \w+$/m,
      );
      expect(listed.out).toMatch(new RegExp(`^${ended.id} +review +train +succeeded +4/4 `, "m"));
      // A job that has ended is watched as one that runs.
      expect((await json("jobs", "watch", ended.id)).id).toBe(ended.id);
    },
    2 * MINUTES,
  );

  test(
    "--detach prints the id; Ctrl-C ends the watching alone, and says how to go on; cancel ends the job",
    async () => {
      const long = ["--steps", "5000", "--length", "8"];
      const { out } = await ok("train", "review", file("train.jsonl"), ...long, "--detach");
      const id = out.trim();
      expect(out).toMatch(/^job-[0-9a-f-]+\n$/);
      let watcher: ChildProcess | undefined;
      const watching = foreword(["jobs", "watch", id, ...to], { started: child => (watcher = child) });
      watcher!.stderr!.on("data", chunk => {
        if (/training 8 positions/.test(String(chunk))) watcher!.kill("SIGINT");
      });
      const { code, err, out: said } = await watching;
      expect([code, said]).toEqual([130, ""]);
      expect(err).toContain(`foreword jobs watch ${id}`);
      expect(err).toContain(`foreword jobs cancel ${id}`);
      expect((await job(id)).state).toBe("running");
      const again = foreword(["jobs", "watch", id, ...to]);
      expect((await ok("jobs", "cancel", id)).out).toBe(`${id}: cancelled\n`);
      const ended = await again;
      expect([ended.code, ended.out]).toEqual([1, `${id} was cancelled; nothing was added\n`]);
    },
    2 * MINUTES,
  );

  test(
    "a job that fails says why, and the command fails",
    async () => {
      const { code, out } = await foreword([
        "train",
        "review",
        file("train.jsonl"),
        "--validation",
        file("dev.CSV"),
        "--max-tokens",
        "1",
        ...to,
      ]);
      expect(code).toBe(1);
      expect(out).toMatch(
        /^job-\S+ failed: examples: line 1: .*at most 1 fit.*4 more lines.*\n {2}line 1: .*\n {2}line 2: /,
      );
    },
    2 * MINUTES,
  );

  test(
    "what the server refuses is one line",
    async () => {
      await writeFile(file("odd.jsonl"), '{"input":"x","label":"odd"}\n{"input":"y","label":"positive"}\n');
      const { code, err } = await foreword(["train", "review", file("odd.jsonl"), ...to]);
      expect(code).toBe(1);
      expect(err).toMatch(/the label "odd" is none of the task's\. Use one of: positive, negative/);
      const kept = (await server.get("/datasets")).body.items.length;
      const nowhere = await foreword(["train", "nothing", file("train.jsonl"), ...to]);
      expect([nowhere.code, nowhere.err]).toEqual([1, expect.stringMatching(/^There is no task "nothing"/)]);
      expect((await server.get("/datasets")).body.items).toHaveLength(kept);
      const unknown = await foreword(["jobs", "watch", "job-none", ...to]);
      expect([unknown.code, unknown.err]).toEqual([1, expect.stringMatching(/no job "job-none"/)]);
    },
    2 * MINUTES,
  );

  test(
    "search and a distillation: what was raced, and what was saved, in tables",
    async () => {
      await server.task({
        id: "plain",
        type: "classification",
        labels,
        prompt: { template: "Review: {{ input }}\nSentiment:" },
      });
      await writeFile(
        file("films.jsonl"),
        reviewsOf(["film"])
          .map(row => `${JSON.stringify(row)}\n`)
          .join(""),
      );
      await writeFile(file("rules.txt"), "A film is positive or negative. Nothing else may be said of it.");
      const flags = ["--no-patterns", "--written", "0", "--budget", "60"];
      const searched = await ok("search", "plain", file("films.jsonl"), ...flags);
      expect(searched.err).toMatch(/^racing 1 wordings on up to \d+ examples$/m);
      expect(searched.out).toMatch(
        /^ +prompt +from +tokens +race: accuracy +examples +validation \(95 %\)\n1 .* (active|verbalizers) +\d+ +[01]\.\d{4} +\d+ +[01]\.\d{4} \([01]\.\d{4} to [01]\.\d{4}\)$/m,
      );
      expect(searched.out).toMatch(/^version \d: .*; what was active [01]\.\d{4}/m);
      const learnt = ["--method", "distill", "--teacher", file("rules.txt"), "--steps", "2", "--length", "4"];
      const distilled = await ok("train", "plain", file("films.jsonl"), ...learnt);
      expect(distilled.err).toMatch(/^the teacher answers 20 inputs$/m);
      expect(distilled.out).toMatch(
        /^it gives \d+\.\d % of the teacher's answers, 4 positions instead of \d+ \(\d+ saved\), \d+\.\d\d times as fast$/m,
      );
    },
    2 * MINUTES,
  );

  test(
    "evaluate: scores, comparisons and the examples that differ, in tables",
    async () => {
      await server.post("/tasks/review/prompts", {
        kind: "hard",
        template: "Is it good? {{ input }}\nAnswer:",
      });
      const { items } = (await server.get("/tasks/review/prompts")).body;
      const last = items.at(-1).version;
      const { out } = await ok(
        "evaluate",
        "review",
        file("train.jsonl"),
        "--prompts",
        `1,${last},1+${last}:majority`,
      );
      expect(out).toMatch(/^5 examples$/m);
      expect(out).toMatch(/^prompt +accuracy \(95 %\) +macro F1 +log loss +calibration error +agreement$/m);
      expect(out).toMatch(
        /^1 +[01]\.\d{4} \([01]\.\d{4} to [01]\.\d{4}\) +[01]\.\d{4} +\d\.\d{4} +0\.\d{4} *$/m,
      );
      expect(out).toMatch(new RegExp(`^${last} minus 1 +accuracy +-?[01]\\.\\d{4} .* +[01]`, "m"));
      expect(out).toMatch(new RegExp(`^1\\+${last} by majority minus ${last} +accuracy`, "m"));
      const one = await json("evaluate", "review", file("train.jsonl"), "--prompts", "1", "--calibrate");
      expect(one).toMatchObject({
        kind: "evaluate",
        result: { examples: 5, prompts: [{ prompt: 1, name: "1" }] },
      });
      expect(one.result.prompts[0].calibration.temperature).toBeGreaterThan(0);
      const wrong = await foreword(["evaluate", "review", file("train.jsonl"), "--prompts", "one", ...to]);
      expect([wrong.code, wrong.err]).toEqual([1, expect.stringMatching(/It takes versions, such as 3/)]);
    },
    2 * MINUTES,
  );

  test(
    "train --ensemble: each member's score, each vote's, and what answers",
    async () => {
      const flags = ["--validation", "0.4", ...quick, "--ensemble", "2", "--vote", "majority", "--activate"];
      const { out, err } = await ok("train", "review", file("train.jsonl"), ...flags);
      expect(err).toMatch(/member 2 of 2: prefix/);
      expect(out).toMatch(/^version \d+ +[01]\.\d{4}$[\s\S]*^together, by majority +[01]\.\d{4}$/m);
      expect(out).toMatch(/^the ensemble answers for review now, by majority$/m);
      const { active } = (await server.get("/tasks/review/active")).body;
      expect(active).toMatchObject({ vote: "majority", ensemble: [expect.any(Number), expect.any(Number)] });
      const activated = async (what: string) => {
        await ok("prompts", "activate", "review", what);
        return (await server.get("/tasks/review/active")).body.active;
      };
      expect(await activated("1")).toEqual({ prompt: 1 });
      expect(await activated(`${active.ensemble.join("+")}:majority`)).toEqual(active);
      const weighted = { ensemble: active.ensemble, vote: "weighted", weights: [0.25, 0.75] };
      expect(await activated(JSON.stringify(weighted))).toEqual(weighted);
      const unclear = await foreword(["prompts", "activate", "review", "1,2", ...to]);
      expect([unclear.code, unclear.err]).toEqual([1, expect.stringMatching(/2\+3\+4/)]);
      const lonely = await foreword(["train", "review", file("train.jsonl"), "--vote", "mean", ...to]);
      expect([lonely.code, lonely.err]).toEqual([1, expect.stringMatching(/Add --ensemble/)]);
    },
    2 * MINUTES,
  );
});

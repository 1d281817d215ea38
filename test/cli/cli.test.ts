import type { ChildProcess } from "node:child_process";
import { access, mkdtemp, rm } from "node:fs/promises";
import { createServer as createHttpServer } from "node:http";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { ForewordError } from "../../src/errors.ts";
import { startServer, type TestServer } from "../http/server.ts";
import { describeBackbone } from "../support/backbone.ts";
import { foreword } from "../support/command.ts";
import { tinyBackbone } from "../support/tiny.ts";

describe("foreword", () => {
  test("help: of the whole, and of each command, with what it is for", async () => {
    const { code, out } = await foreword(["--help"]);
    expect(code).toBe(0);
    const commands = [
      "serve",
      "worker",
      "pull",
      "infer",
      "tasks",
      "prompts",
      "train",
      "jobs",
      "datasets",
      "backup",
      "export",
      "import",
      "graph",
    ];
    commands.push("doctor");
    for (const command of commands) expect(out).toMatch(new RegExp(`^  ${command}\\b.* \\w+`, "m"));
    const helps = await Promise.all(commands.map(command => foreword([command, "--help"])));
    for (const help of helps) {
      expect(help.code).toBe(0);
      expect(help.out).toMatch(/^Usage: foreword \w+/);
    }
  });

  test("help of a command within a group", async () => {
    const { code, out } = await foreword(["help", "jobs", "watch"]);
    expect([code, out]).toEqual([0, expect.stringMatching(/^Usage: foreword jobs watch /)]);
  });

  test("a server whose port is taken says so, and ends", async () => {
    const other = createServer().listen(0, "127.0.0.1");
    await new Promise(resolve => other.once("listening", resolve));
    const data = await mkdtemp(join(tmpdir(), "foreword-cli-"));
    try {
      const { port } = other.address() as { port: number };
      const args = [
        "serve",
        "--port",
        String(port),
        "--host",
        "127.0.0.1",
        "--data",
        data,
        "--backbone",
        data,
      ];
      const { code, err } = await foreword(args);
      expect(code).toBe(1);
      expect(err).toMatch(/can't listen at 127\.0\.0\.1, port \d+ \(another process listens there\).*--port/);
    } finally {
      other.close();
      await rm(data, { recursive: true, force: true });
    }
  });

  test("help names the variable of a secret, and never what it holds", async () => {
    const env = { FOREWORD_ADMIN_KEY: "topsecret", FOREWORD_REGISTRY: "redis://:topsecret@127.0.0.1" };
    for (const command of [["tasks", "list"], ["infer"], ["serve"], ["worker"]]) {
      const { out } = await foreword([...command, "--help"], { env });
      expect(out).toContain(command[0] === "worker" ? "FOREWORD_REGISTRY" : "FOREWORD_ADMIN_KEY");
      expect(out).not.toContain("topsecret");
    }
  });

  test("a server's problem: each line's error behind the message, the document for programs; a key, ids and texts", async () => {
    const asked: string[] = [];
    const errors = [2, 5, 9].map(line => ({ line, detail: "It has no label." }));
    const problem = new ForewordError("bad_dataset", "Line 2: no label (and 2 more lines: see errors).", {
      errors,
      count: 3,
    }).toProblem();
    const server = createHttpServer((request, response) => {
      asked.push(`${request.method} ${request.url} ${request.headers.authorization}`);
      const bad = request.url!.startsWith("/datasets?");
      response.writeHead(bad ? 422 : 200, { "content-type": "application/json" });
      response.end(JSON.stringify(bad ? problem : { text: "\u001b[31mred" }));
    }).listen(0, "127.0.0.1");
    await new Promise(resolve => server.once("listening", resolve));
    const { port } = server.address() as { port: number };
    const env = { FOREWORD_ADMIN_KEY: "topsecret", FOREWORD_SERVER: `127.0.0.1:${port}` };
    try {
      const told = await foreword(["datasets", "add", "-"], { env, input: "{}" });
      const lines = errors.map(({ line, detail }) => `  line ${line}: ${detail}\n`);
      expect([told.code, told.err]).toEqual([1, `${problem.detail}\n${lines.join("")}`]);
      const document = await foreword(["datasets", "add", "-", "--json"], { env, input: "{}" });
      expect([document.code, document.out, JSON.parse(document.err)]).toEqual([1, "", problem]);
      await foreword(["datasets", "delete", "../tasks/data-to-text"], { env });
      const { out } = await foreword(["infer", "sentiment?x=1", "hello"], { env });
      expect(out).toBe("[31mred\n");
      expect(asked.slice(2)).toEqual([
        "DELETE /datasets/..%2Ftasks%2Fdata-to-text Bearer topsecret",
        "POST /tasks/sentiment%3Fx%3D1/infer Bearer topsecret",
      ]);
    } finally {
      server.close();
    }
  });

  test("a failure ends it, also where standard input stays open", async () => {
    const problem = new ForewordError("dataset_not_found", "There is no such data set.").toProblem();
    const server = createHttpServer((_, response) => {
      response.writeHead(404, { "content-type": "application/problem+json" }).end(JSON.stringify(problem));
    }).listen(0, "127.0.0.1");
    await new Promise(resolve => server.once("listening", resolve));
    const { port } = server.address() as { port: number };
    try {
      for (const [at, message] of [
        [9, /^No server answers at [^\n]*\n$/],
        [port, /^There is no such data set\.\n$/],
      ] as const) {
        const started = (child: ChildProcess) => {
          child.stdin!.write("{}\n");
          setTimeout(() => child.kill(), 100_000).unref();
        };
        const args = ["datasets", "add", "-", "--server", `127.0.0.1:${at}`];
        const { code, err } = await foreword(args, { input: null, started });
        expect(code).toBe(1);
        expect(err).toMatch(message);
      }
    } finally {
      server.closeAllConnections();
      server.close();
    }
  });

  test("doctor knows a backbone that nothing can fetch", async () => {
    const { code, out } = await foreword(["doctor", "--backbone", "nosuch"]);
    expect(code).toBe(1);
    expect(out).toMatch(/^PROBLEM +backbone nosuch +There is no backbone nosuch: .*smollm2-135m/m);
  });

  test("doctor opens the backbone that it finds", async () => {
    const { code, out } = await foreword(["doctor", "--backbone", tmpdir()]);
    expect(code).toBe(1);
    expect(out).toMatch(/^PROBLEM +backbone .*config\.json/m);
    const tiny = await tinyBackbone("llama", false);
    try {
      expect((await foreword(["doctor", "--backbone", tiny.path])).out).toMatch(/^ok +backbone .* llama, /m);
      await rm(join(tiny.path, "tokenizer.json"));
      const without = await foreword(["doctor", "--backbone", tiny.path]);
      expect(without.out).toMatch(/^PROBLEM +backbone .*has no tokenizer\.json/m);
    } finally {
      await tiny.remove();
    }
  });

  test("infer --local: its log goes beside the answer, on standard error", async () => {
    const tiny = await tinyBackbone("llama", false);
    try {
      const place = ["--backbone", tiny.path, "--data", join(tiny.path, "data"), "--precision", "fp32"];
      const { out, err } = await foreword(["infer", "t", "x", "--local", "--log-level", "info", ...place]);
      expect(out).toBe("");
      expect(err).toMatch(/^\{.*"msg":"the backbone is ready"\}$/m);
      expect(err).toMatch(/^There is no task "t".*\n$/m);
    } finally {
      await tiny.remove();
    }
  });

  test("a folder is no file of examples", async () => {
    const { code, err } = await foreword(["datasets", "add", tmpdir()]);
    expect(code).toBe(1);
    expect(err).toMatch(/can't be read \(it is a folder\)/);
  });

  test.each([
    ["a command that is not there", ["sing"], /unknown command 'sing'/],
    ["a flag that is not there", ["serve", "--prot", "1"], /unknown option '--prot'.*--port/s],
    ["a port that is none", ["serve", "--port", "http"], /Setting port \(flag --port\)/],
    ["a Redis that is none", ["serve", "--registry", "redis://a,b"], /FOREWORD_REGISTRY\).*redis-cluster/s],
    ["no Redis", ["worker", "--registry", "redis://127.0.0.1:9"], /Redis can't be reached/],
    ["a worker without Redis", ["worker"], /runs its jobs itself.*FOREWORD_REGISTRY/s],
    ["an argument too few", ["infer", "sentiment"], /missing required argument 'input'/],
    ["no server", ["tasks", "--server", "http://127.0.0.1:9"], /No server answers at .*npm start/s],
    ["an empty address", ["tasks", "--server", ""], /--server: "" is no address.*http:\/\/127\.0\.0\.1/],
    ["a name that is a folder's", ["tasks", "delete", ".."], /"\.\." names nothing on a server/],
    [
      "a key that no header can carry",
      ["tasks", "--key", "se\ncret"],
      /^The key of --key \(FOREWORD_ADMIN_KEY\) can't be one: keys are of ASCII/,
    ],
    [
      "a setting for a server that runs",
      ["infer", "t", "x", "--precision", "fp32"],
      /--precision is for --local/,
    ],
    [
      "a server beside a process of its own",
      ["infer", "t", "x", "--local", "--server", "http://127.0.0.1:9"],
      /--server is for a running server/,
    ],
    ["a backbone that is none", ["graph", "--backbone", "nosuch"], /There is no backbone nosuch/],
    ["a number that is none", ["train", "t", "x", "--steps", "many"], /'--steps <count>'.*takes a number/s],
    [
      "a start that is none",
      ["train", "t", "x", "--init", "magic"],
      /'--init <start>'.*labels.*prompt:<task>/s,
    ],
    ["a method that is none", ["train", "t", "x", "--method", "lora"], /Allowed choices are prefix, soft/],
    [
      "two wishes",
      ["train", "t", "x", "--activate", "--if-better"],
      /cannot be used with option '--if-better'/,
    ],
    ["a file that is not there", ["train", "t", "/nothing.jsonl"], /\/nothing\.jsonl can't be read/],
  ])("%s: one message that helps, no stack", async (_, args, message) => {
    const { code, err } = await foreword(args);
    expect(code).not.toBe(0);
    expect(err).toMatch(message);
    expect(err).not.toMatch(/^\s+at /m);
  });
});

describeBackbone("foreword with a server and a backbone", path => {
  let server: TestServer;
  let to: string[];
  beforeAll(async () => {
    server = await startServer(path);
    to = ["--server", server.url];
  });
  afterAll(() => server.close());

  const json = async (...args: string[]) => {
    const { code, out, err } = await foreword([...args, ...to, "--json"]);
    expect(code, err).toBe(0);
    return JSON.parse(out);
  };

  test("tasks, prompts and infer: tables for people, JSON for programs", async () => {
    const { out } = await foreword(["tasks", ...to]);
    expect(out).toMatch(/^sentiment +classification/m);
    expect((await json("tasks")).items).toHaveLength(5);
    expect((await json("prompts", "list", "sentiment")).items[0]).toMatchObject({ version: 1, kind: "hard" });
    const reply = await json("infer", "sentiment", "A warm and funny film.", "--scores", "all");
    expect(reply).toMatchObject({ task: "sentiment", label: "positive" });
    const said = await foreword(["infer", "sentiment", "A warm and funny film.", ...to]);
    expect(said.out).toBe("positive\n");
    const scored = await foreword(["infer", "sentiment", "A warm and funny film.", "--scores", "all", ...to]);
    expect(scored.out).toMatch(
      /^positive\n\nlabel +probability\npositive +(1|0)\.\d{4}\nnegative +0\.\d{4}\n$/,
    );
  });

  test("a problem is its detail on one line", async () => {
    const { code, err } = await foreword(["infer", "nothing", "x", ...to]);
    expect(code).toBe(1);
    expect(err.trim().split("\n")).toHaveLength(1);
    expect(err).toContain("nothing");
  });

  test("copies, history, roll-back and shadow", async () => {
    expect(await json("prompts", "copy", "sentiment/1", "question-type", "--name", "borrowed")).toMatchObject(
      {
        task: "question-type",
        name: "borrowed",
        parent: { task: "sentiment", version: 1 },
      },
    );
    const before = (await server.get("/tasks/sentiment/active")).body;
    await server.put("/tasks/sentiment/active", { prompt: 1, shadow: { prompt: 2, share: 0.5 } });
    await server.put("/tasks/sentiment/active", { prompt: 2 });
    await server.put("/tasks/sentiment/active", { prompt: 2 });
    const rolled = await foreword(["tasks", "rollback", "sentiment", ...to]);
    expect(rolled.out).toContain(
      '{"prompt":1,"shadow":{"prompt":2,"share":0.5}} answers for sentiment again',
    );
    expect(await json("tasks", "shadow", "sentiment")).toMatchObject({ compared: 0, shadow: { prompt: 2 } });
    const history = (await json("tasks", "history", "sentiment", "--limit", "4")).items;
    expect(history.map((entry: { active: { prompt: number } }) => entry.active.prompt)).toEqual([1, 2, 2, 1]);
    const back = await json("tasks", "rollback", "sentiment", "--to", `${before.revision}`);
    expect(back).toEqual({ active: before.active, revision: before.revision + 5 });
    await server.task({ id: "alone", labels: ["a", "b"] });
    const { code, err } = await foreword(["tasks", "rollback", "alone", ...to]);
    expect(code).toBe(1);
    expect(err).toMatch(/Nothing else was active for alone/);
    await server.call("DELETE", "/tasks/alone");
  });

  test("backup while the server runs", async () => {
    const { folder } = await json("backup", "nightly");
    await access(folder);
    expect((await server.get("/tasks")).body.items).toHaveLength(5);
  });

  test("backbone shows the model, and what each precision costs and loses", async () => {
    const { out } = await foreword(["backbone", ...to]);
    expect(out).toMatch(/^parameters +134\.5 million$/m);
    const row = (name: string) => new RegExp(`^${name} .* \\d+ MB +\\d\\.\\d{3} +(1|0\\.\\d)`, "m");
    expect(out).toMatch(row("fp32"));
    expect(out).toMatch(row("int8"));
    const { precision, fingerprint } = (await server.get("/backbone")).body;
    expect(await json("backbone")).toMatchObject({ precision, fingerprint });
  });

  test("graph prints the model as a person reads it", async () => {
    const { out } = await foreword(["graph", "--backbone", path]);
    expect(out).toMatch(/RMSNormalization/);
    expect(out).toMatch(/layers\.29\.mlp\.down_proj\.weight/);
    const whole = await foreword(["graph", "--backbone", path, "--gradient"]);
    expect(whole.out).toMatch(/^ {2}d\.past_key\.0 {2}float32\[1, 3, past, 64\]/m);
    const data = JSON.parse((await foreword(["graph", "--backbone", path, "--gradient", "--json"])).out);
    const known = new Set([...data.inputs, ...data.weights, ...data.constants].map(({ name }) => name));
    for (const { inputs, outputs } of data.nodes) {
      for (const name of inputs) expect(name === null || known.has(name)).toBe(true);
      for (const { name } of outputs) known.add(name);
    }
    expect(data.outputs.map(({ name }: { name: string }) => name)).toContain("d.past_key.0");
  });

  test("whoever stops reading ends it without a word", async () => {
    const { code, err } = await foreword(["graph", "--backbone", path], {
      started: child => child.stdout!.once("data", () => child.stdout!.destroy()),
    });
    expect({ code, err }).toEqual({ code: 0, err: "" });
  });

  test("doctor finds the runtimes and the backbone", async () => {
    const { code, out } = await foreword(["doctor", "--json"], {
      env: { FOREWORD_MIRROR: dirname(path) },
    });
    const findings = JSON.parse(out) as { check: string; ok: boolean }[];
    expect(findings.map(({ check }) => check)).toContain("runtime tfjs");
    expect(code).toBe(findings.every(({ ok }) => ok) ? 0 : 1);
  });
});

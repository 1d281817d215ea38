/** Training over HTTP, in a process of its own. */
import { createHash } from "node:crypto";
import { createReadStream } from "node:fs";
import { readdir } from "node:fs/promises";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test, vi } from "vitest";
import { readPromptFile } from "../../src/prompt/file.ts";
import { trainers } from "../support/children.ts";
import { sharedCache } from "../support/compiled.ts";
import { describeShallow } from "../support/shallow.ts";
import { expectProblem, startServer, type TestServer } from "./server.ts";

const template = "Review: {{ input }}\nSentiment:";
const labels = ["positive", "negative"];
const reviews = [
  ["A warm and funny film.", "positive"],
  ["Dull from start to end.", "negative"],
  ["I laughed, I cried, I want to see it again.", "positive"],
  ["The plot makes no sense.", "negative"],
  ["Beautifully acted.", "positive"],
  ["A waste of two hours.", "negative"],
  ["One of the year's best.", "positive"],
  ["Nobody in it can act.", "negative"],
].map(([input, label]) => ({ input, label }));
const validation = [
  { input: "Charming and clever.", label: "positive" },
  { input: "Boring, long and loud.", label: "negative" },
];
const quick = { examples: reviews, validation, steps: 4, batch_size: 4, length: 8, seed: 1 };

interface Event {
  id: number;
  event: string;
  // biome-ignore lint/suspicious/noExplicitAny: an event's shape is what the tests are about
  data: any;
}

describeShallow("training over HTTP", backbone => {
  let server: TestServer;
  beforeAll(async () => {
    server = await startServer(backbone, { trainThreads: 2 });
    await server.task({ id: "review", type: "classification", labels, prompt: { template } });
    await server.task({ id: "poem", type: "generation", prompt: { template: "Write: {{ input }}\nText:" } });
  });
  afterAll(() => server.close());

  const train = (task: string, body: object) => server.post(`/tasks/${task}/train`, body);
  async function started(task: string, body: object): Promise<string> {
    const { status, headers, body: job } = await train(task, body);
    expect(status, JSON.stringify(job)).toBe(202);
    expect(headers.get("location")).toBe(`/jobs/${job.id}`);
    return job.id;
  }

  /** Reads a job's events until it ends, or until `enough`. */
  async function watch(
    id: string,
    { last, enough = () => false }: { last?: number; enough?: (events: Event[]) => boolean } = {},
  ) {
    const controller = new AbortController();
    const response = await fetch(`${server.url}/jobs/${id}/events`, {
      headers: last === undefined ? {} : { "last-event-id": String(last) },
      signal: controller.signal,
    });
    expect(response.headers.get("content-type")).toContain("text/event-stream");
    const events: Event[] = [];
    let text = "";
    const decoder = new TextDecoder();
    for await (const chunk of response.body!) {
      text += decoder.decode(chunk, { stream: true });
      const parts = text.split("\n\n");
      text = parts.pop()!;
      for (const part of parts) {
        const field = (name: string) => new RegExp(`^${name}: (.*)$`, "m").exec(part)?.[1];
        if (field("event"))
          events.push({ id: Number(field("id")), event: field("event")!, data: JSON.parse(field("data")!) });
      }
      if (enough(events)) break;
    }
    controller.abort();
    return events;
  }
  const ended = (id: string) => server.ended(id);
  const reached = (step: number) => (events: Event[]) =>
    events.some(({ event, data }) => event === "progress" && data.step >= step);

  async function weightsDigest(): Promise<string> {
    const folder = sharedCache();
    const { fingerprint } = await server.backbone();
    const [name] = (await readdir(folder)).filter(entry =>
      entry.startsWith(`${fingerprint.slice(0, 32)}-fp32`),
    );
    const hash = createHash("sha256");
    for await (const chunk of createReadStream(join(folder, name!, "weights.bin"))) hash.update(chunk);
    return hash.digest("hex");
  }

  describe("a job", () => {
    test("from a request to the next answer: events, version, activation; the backbone stays as it was", async () => {
      const before = await weightsDigest();
      const id = await started("review", { ...quick, activate: true });
      const events = await watch(id);
      expect(events.map(({ event }) => event)).toEqual(expect.arrayContaining(["state", "progress", "log"]));
      const ids = events.map(event => event.id);
      expect(ids).toEqual(ids.toSorted((a, b) => a - b));
      const { precision } = await server.backbone();
      const lines = events.filter(({ event }) => event === "log").map(({ data }) => data.text);
      expect(lines).toContain(`training 8 positions on 8 examples: 4 steps of 4, ${precision.training}`);
      const job = events.at(-1)!.data;
      expect(job).toMatchObject({ id, task: "review", kind: "train", state: "succeeded", error: null });
      expect(job.progress).toMatchObject({ step: 4, steps: 4, loss: expect.any(Number) });
      expect(job.result).toMatchObject({ versions: [2], activated: true });
      const { new: score, active, p_value } = job.result.validation;
      for (const share of [score, active, p_value]) expect(share >= 0 && share <= 1).toBe(true);

      const answer = await server.infer("review", { input: "A warm, funny film." });
      expect(answer.prompt).toEqual({ version: 2, kind: "prefix" });
      const prompt = (await server.get("/tasks/review/prompts/2")).body;
      expect(prompt).toMatchObject({
        kind: "prefix",
        template: " {{ input }}\nSentiment:",
        length: 8,
        parent: { task: "review", version: 1 },
        recipe: { method: "prefix", template, steps: 4, batchSize: 4, seed: 1, job: id },
        metrics: {
          metric: "accuracy",
          training_examples: 8,
          validation_examples: 2,
          // A step or two from chance, where rounding may change an answer.
          stored: expect.stringMatching(/^F(16|32)$/),
          curve: expect.any(Array),
        },
        pieces: [
          { prefix: 8, trained: true },
          { text: " ", frozen: true },
          { field: "input", frozen: true },
          { text: "\nSentiment:", frozen: true },
        ],
      });
      expect(await weightsDigest()).toBe(before);
    });

    test("events go on from the last one that was heard; after the end comes the end alone", async () => {
      const { items } = (await server.get("/jobs?task=review")).body;
      const whole = await watch(items[0].id);
      const last = whole.at(-1)!;
      const tail = await watch(items[0].id, { last: last.id - 1 });
      expect(tail.at(-1)).toEqual(last);
      expect(tail.length).toBeLessThanOrEqual(whole.length);
      expect(tail.every(event => event.id >= last.id - 1)).toBe(true);
      // A connection that broke after the first of a revision's events hears its others again, the end among them.
      const [first] = tail;
      expect((await watch(items[0].id, { last: first!.id })).at(-1)).toEqual(last);
    });

    test("soft: virtual tokens take the place of the words before the input; a template's own words stay frozen", async () => {
      const soft = {
        ...quick,
        method: "soft",
        template: "{{ soft(3) }}Review: {{ input }}{{ soft(2) }}\nSentiment:",
        init: "labels",
      };
      const { length, ...rest } = soft;
      const [first, second] = [
        await ended(await started("review", rest)),
        await ended(await started("review", { ...quick, method: "soft" })),
      ];
      expect(first, JSON.stringify(first.error)).toMatchObject({ state: "succeeded" });
      const mixed = (await server.get(`/tasks/review/prompts/${first.result.versions[0]}`)).body;
      expect(mixed.pieces).toEqual([
        { soft: 3, trained: true },
        { text: "Review: ", frozen: true },
        { field: "input", frozen: true },
        { soft: 2, trained: true },
        { text: "\nSentiment:", frozen: true },
      ]);
      const { url } = server;
      const file = await fetch(`${url}/tasks/review/prompts/${mixed.version}?format=safetensors`);
      const stored = readPromptFile(new Uint8Array(await file.arrayBuffer()));
      // Words have no vectors of their own in the file: the backbone's table, which is frozen, is all they have.
      expect(stored.soft?.dims[0]).toBe(5);
      expect(stored.prefix).toBeUndefined();
      const pure = (await server.get(`/tasks/review/prompts/${second.result.versions[0]}`)).body;
      expect(pure).toMatchObject({ kind: "soft", template: "{{ soft(8) }} {{ input }}\nSentiment:" });
    });

    test("other fields than those of what is active are trained, and compared with nothing", async () => {
      const pair = ({ input, label }: (typeof reviews)[number]) => ({
        input: { title: "A film", text: input },
        label,
      });
      const body = {
        ...quick,
        template: "{{ title }}: {{ text }}\nSentiment:",
        examples: reviews.map(pair),
        validation: validation.map(each => pair(each)),
        steps: 1,
      };
      expectProblem(await train("review", { ...body, activate: "if_better" }), 422, "validation", {
        field: "activate",
        detail: expect.stringMatching(/other fields/),
      });
      const job = await server.ended(await started("review", body));
      expect(job, JSON.stringify(job.error)).toMatchObject({
        state: "succeeded",
        result: { validation: { active: null, p_value: null } },
      });
    });

    test("generation trains too, and is judged by its loss", async () => {
      const examples = ["sun", "moon", "rain", "snow"].map(input => ({
        input,
        output: ` The ${input} is old.`,
      }));
      const job = await ended(
        await started("poem", {
          examples,
          validation: [{ input: "wind", output: " The wind is old." }],
          steps: 6,
          length: 8,
          activate: "if_better",
        }),
      );
      expect(job, JSON.stringify(job.error)).toMatchObject({ state: "succeeded" });
      expect(job.result.validation.new).toBeGreaterThan(job.result.validation.active);
      // Kept so that larger is better, told as what it is.
      expect(job.result.validation.new).toBeLessThan(0);
      const lines = job.log.map((line: { text: string }) => line.text);
      expect(lines).toContainEqual(expect.stringMatching(/^step 6: loss \d+\.\d{4} on 1 validation/));
    });

    test("conversations with labels train, answer and are evaluated", async () => {
      await server.task({ id: "mood", labels, prompt: { template: "{{ messages }}" } });
      const examples = reviews.map(({ input, label }) => ({
        input: {
          messages: [
            { role: "system", content: "Is it a good film?" },
            { role: "user", content: input },
          ],
        },
        label,
      }));
      const job = await ended(await started("mood", { examples, validation: 0.25, steps: 1, length: 4 }));
      expect(job, JSON.stringify(job.error)).toMatchObject({ state: "succeeded" });
      const [prompt] = job.result.versions;
      const answer = await server.infer("mood", { input: examples[0]!.input, prompt });
      expect(answer.prompt).toEqual({ version: prompt, kind: "prefix" });
      expect(labels).toContain(answer.label);
      const judged = await server.job("/tasks/mood/evaluate", { examples, prompts: [1, prompt] });
      expect(judged, JSON.stringify(judged.error)).toMatchObject({
        state: "succeeded",
        result: { examples: 8, prompts: [{ prompt: 1 }, { prompt }] },
      });
    });

    describe("an ensemble", () => {
      const ensemble = { members: 3, methods: ["prefix", "soft"], inits: ["examples", "labels"] };
      const body = {
        examples: [...reviews, ...validation],
        validation: 0.2,
        steps: 4,
        batch_size: 4,
        seed: 7,
      };

      test("becomes versions of their own seeds, methods and starts that answer together", async () => {
        const id = await started("review", {
          ...body,
          ensemble: { ...ensemble, vote: "weighted" },
          activate: true,
        });
        const job = await ended(id);
        expect(job, JSON.stringify(job.error)).toMatchObject({ state: "succeeded" });
        const { versions, ensemble: report, activated } = job.result;
        expect([versions.length, activated]).toEqual([3, true]);
        const recipes = await Promise.all(
          versions.map(
            async (version: number) => (await server.get(`/tasks/review/prompts/${version}`)).body.recipe,
          ),
        );
        expect(recipes).toMatchObject([
          { method: "prefix", init: "examples", seed: 7, split_seed: 7, member: 0, job: id },
          { method: "soft", init: "labels", seed: 8, split_seed: 7, member: 1 },
          { method: "prefix", init: "examples", seed: 9, split_seed: 7, member: 2 },
        ]);
        expect(report.members).toHaveLength(3);
        expect(Object.keys(report.votes)).toEqual(["mean", "majority", "weighted"]);
        expect(report.weights.reduce((a: number, b: number) => a + b)).toBeCloseTo(1, 8);
        const { active } = (await server.get("/tasks/review/active")).body;
        expect(active).toEqual({ ensemble: versions, vote: "weighted", weights: report.weights });
        // Behind the members' steps come the answers of what is judged.
        expect(job.progress.step).toBeGreaterThan(12);
        expect(job.progress.step).toBe(job.progress.steps);

        const answer = await server.infer("review", { input: "Fine.", scores: "all", members: true });
        expect(answer.members.map(({ version }: { version: number }) => version)).toEqual(versions);
        for (const label of labels) {
          const mixed = answer.members.reduce(
            (sum: number, { scores }: { scores: Record<string, number> }, i: number) =>
              sum + report.weights[i] * scores[label]!,
            0,
          );
          expect(answer.scores[label]).toBeCloseTo(mixed, 6);
        }
      });

      test("whose members agree too little gives no label", async () => {
        const { active } = (await server.get("/tasks/review/active")).body;
        await server.put("/tasks/review/active", { ...active, agreement_below: 1 });
        const inputs = [...reviews, ...validation].map(({ input }) => input);
        const { results } = await server.infer("review", { inputs: [...inputs, "?", "Hm."] });
        for (const { label, agreement } of results) expect(label === null).toBe(agreement < 1);
        expectProblem(
          await server.put("/tasks/review/active", { prompt: 1, agreement_below: 0.5 }),
          422,
          "validation",
          { field: "agreement_below" },
        );
        await server.put("/tasks/review/active", { prompt: 1 });
      });

      test("that is killed trains no member again that was done", async () => {
        const { prompts } = (await server.get("/tasks/review")).body;
        const id = await started("review", { ...body, ensemble: 2, steps: 90, checkpoint_seconds: 1 });
        await watch(id, { enough: reached(94) });
        await vi.waitFor(async () => expect((await trainers()).length).toBe(1), { timeout: 5000 });
        process.kill((await trainers())[0]!, "SIGKILL");
        const job = await ended(id);
        expect(job, JSON.stringify(job.error)).toMatchObject({ state: "succeeded" });
        expect(job.result.versions).toEqual([prompts + 1, prompts + 2]);
        const lines = job.log.map((line: { text: string }) => line.text);
        expect(lines.filter((line: string) => line.startsWith("member 1 of 2"))).toHaveLength(1);
        expect(lines.filter((line: string) => line.startsWith("member 2 of 2"))).toHaveLength(2);
      });

      test("answers with labels alone", async () => {
        const examples = [{ input: "x", output: "y" }];
        expectProblem(await train("poem", { examples, ensemble: 2 }), 422, "validation", {
          field: "ensemble",
        });
        expectProblem(await train("review", { ...body, ensemble: 1 }), 422, "validation");
      });
    });

    test("a trainer that is killed goes on from its checkpoint and ends in the same bits", async () => {
      // Several checkpoints long, on a fast machine too.
      const body = { ...quick, steps: 240, checkpoint_seconds: 1 };
      const whole = await ended(await started("review", body));
      const id = await started("review", body);
      await watch(id, { enough: reached(body.steps / 2) });
      await vi.waitFor(async () => expect((await trainers()).length).toBe(1), { timeout: 5000 });
      process.kill((await trainers())[0]!, "SIGKILL");
      const killed = await ended(id);
      expect(killed, JSON.stringify(killed.error)).toMatchObject({ state: "succeeded" });
      expect(killed.log.map((line: { text: string }) => line.text).join("\n")).toMatch(
        /going on from step \d+/,
      );
      const parameters = async (version: number) => {
        const file = await fetch(`${server.url}/tasks/review/prompts/${version}?format=safetensors`);
        const { prefix } = readPromptFile(new Uint8Array(await file.arrayBuffer()));
        return createHash("sha256")
          .update(new Uint8Array(prefix!.key.buffer))
          .update(new Uint8Array(prefix!.value.buffer))
          .digest("hex");
      };
      expect(await parameters(killed.result.versions[0])).toBe(await parameters(whole.result.versions[0]));
    });

    test("a cancelled job leaves no version, and its process is gone", async () => {
      const { prompts } = (await server.get("/tasks/review")).body;
      const id = await started("review", { ...quick, steps: 5000 });
      await watch(id, { enough: reached(1) });
      expect((await server.call("DELETE", `/jobs/${id}`)).body.state).toBe("cancelled");
      expect((await watch(id)).at(-1)!.data.state).toBe("cancelled");
      expect((await server.get("/tasks/review")).body.prompts).toBe(prompts);
      expect(await trainers()).toEqual([]);
    });

    test("serving goes on while a job runs", async () => {
      const id = await started("review", { ...quick, steps: 5000 });
      await watch(id, { enough: reached(1) });
      const answers = await Promise.all(
        Array.from({ length: 8 }, () => server.infer("review", { input: "Fine." })),
      );
      expect(answers.length).toBe(8);
      await server.call("DELETE", `/jobs/${id}`);
    });
  });

  describe("data sets", () => {
    const ndjson = `${[...reviews, reviews[0], { ...reviews[1], label: "positive" }].map(row => JSON.stringify(row)).join("\n")}\n`;
    const send = (query: string, body: string, type = "application/x-ndjson") =>
      server.call("POST", `/datasets${query}`, body, { "content-type": type });

    test("are kept, counted, listed, trained on and deleted, also under a job", async () => {
      const { status, headers, body } = await send("?id=reviews", ndjson);
      expect(status, JSON.stringify(body)).toBe(201);
      expect(headers.get("location")).toBe("/datasets/reviews");
      expect(body).toMatchObject({
        id: "reviews",
        rows: 10,
        labels: { positive: 6, negative: 4 },
        sha256: expect.stringMatching(/^[0-9a-f]{64}$/),
        duplicates: { count: 1, lines: [9] },
        conflicts: { count: 1, lines: [10] },
      });
      expect((await server.get("/datasets/reviews")).body).toMatchObject({ rows: 10 });
      const { examples, ...rest } = quick;
      const id = await started("review", { ...rest, dataset: "reviews" });
      expect((await server.call("DELETE", "/datasets/reviews")).status).toBe(204);
      expect((await ended(id)).state).toBe("succeeded");
      expectProblem(await server.get("/datasets/reviews"), 404, "dataset_not_found");
      expectProblem(await train("review", { dataset: "reviews" }), 404, "dataset_not_found");
    });

    test("of more labels than a task may have are refused at the line, and told that texts are outputs", async () => {
      const many = Array.from({ length: 1100 }, (_, i) => `{"input":"q${i}","label":"answer ${i}"}\n`).join(
        "",
      );
      const refused = await send("?id=texts", many);
      expectProblem(refused, 422, "bad_dataset", {
        line: 1025,
        detail: expect.stringMatching(/call them output/),
      });
      expectProblem(await server.get("/datasets/texts"), 404, "dataset_not_found");
    });

    test("say which inputs they share with what is trained on", async () => {
      await send("?id=to-train", ndjson);
      const dev = [validation[0], reviews[2], validation[1]].map(row => JSON.stringify(row)).join("\n\n");
      const { body } = await send("?id=dev&against=to-train", dev);
      expect(body).toMatchObject({ rows: 3, leaks: { count: 1, lines: [3] } });
      expectProblem(await send("?against=nothing", dev), 404, "dataset_not_found");
    });

    test("come as CSV too, with commas, quotes and line breaks inside", async () => {
      const csv = 'input,label\r\n"Warm, ""funny"" and\nlong",positive\r\n无聊,negative\r\n';
      const { body } = await send("?id=csv&format=csv", csv, "text/csv");
      expect(body).toMatchObject({ rows: 2, labels: { positive: 1, negative: 1 } });
    });

    test("come as JSON too, whatever a client calls its lines", async () => {
      const one = JSON.stringify(reviews[0]);
      expect((await send("", one, "application/json")).body).toMatchObject({ rows: 1 });
      expect((await send("", ndjson, "application/json")).body).toMatchObject({ rows: 10 });
      expectProblem(await send("", JSON.stringify(reviews), "application/json"), 422, "bad_dataset", {
        detail: expect.stringContaining("Line 1"),
      });
      expectProblem(await server.call("POST", "/datasets"), 422, "bad_dataset", {
        detail: expect.stringContaining("empty"),
      });
    });

    test.each([
      ["no JSON", "{\n", 1],
      ["no answer", `${JSON.stringify(reviews[0])}\n{"input":"x"}\n`, 2],
      ["both answers", '{"input":"x","label":"a","output":"b"}\n', 1],
      ["an empty input", `${JSON.stringify(reviews[0])}\n\n{"input":"  ","label":"positive"}\n`, 3],
      ["an unknown member", '{"text":"x","label":"a"}\n', 1],
      ["labels and outputs mixed", `${JSON.stringify(reviews[0])}\n{"input":"x","output":"y"}\n`, 2],
      ["nothing", "\n\n", 1],
    ])("%s: the line is named, and nothing is kept", async (_, body, line) => {
      expectProblem(await send("?id=broken", body), 422, "bad_dataset", { line });
      expectProblem(await server.get("/datasets/broken"), 404, "dataset_not_found");
    });

    test("bytes that are no UTF-8 are refused", async () => {
      const bytes = Buffer.concat([
        Buffer.from('{"input":"'),
        Buffer.from([0xff, 0xfe]),
        Buffer.from('","label":"a"}\n'),
      ]);
      const answer = await server.call("POST", "/datasets", new Uint8Array(bytes), {
        "content-type": "application/x-ndjson",
      });
      expectProblem(answer, 422, "bad_dataset", { line: 1 });
    });
  });

  describe("what cannot be trained", () => {
    test.each<[string, object, string]>([
      ["a hard prompt", { ...quick, method: "hard" }, "hard_prompt_not_trainable"],
      ["an unknown method", { ...quick, method: "lora" }, "validation"],
      ["no data", { steps: 3 }, "validation"],
      ["both kinds of data", { ...quick, dataset: "x" }, "validation"],
      ["an empty list", { ...quick, examples: [] }, "validation"],
      ["an impossible length", { ...quick, length: 0 }, "validation"],
      ["an unknown label", { ...quick, examples: [...reviews, { input: "x", label: "odd" }] }, "bad_dataset"],
      ["outputs for a classification", { ...quick, examples: [{ input: "x", output: "y" }] }, "bad_dataset"],
      [
        "a field that the template lacks",
        { ...quick, examples: [{ input: { premise: "x" }, label: "positive" }] },
        "bad_dataset",
      ],
      ["a template without a field", { ...quick, template: "Nothing" }, "bad_template"],
      ["weights of unknown labels", { ...quick, class_weights: { odd: 2 } }, "validation"],
      [
        "one label alone",
        { ...quick, examples: reviews.filter(({ label }) => label === "positive") },
        "bad_dataset",
      ],
      ["slots and a prefix", { ...quick, template: "{{ soft(3) }}{{ input }}:" }, "validation"],
      [
        "slots of another length",
        { ...quick, method: "soft", template: "{{ soft(3) }}{{ input }}:" },
        "validation",
      ],
      [
        "slots longer than the context",
        { method: "soft", examples: reviews, template: `${"{{ soft(4096) }}".repeat(2)}{{ input }}:` },
        "validation",
      ],
      [
        "a prompt of another length",
        { ...quick, init: { prompt: { task: "review", version: 1 } }, length: 9 },
        "validation",
      ],
    ])("%s is refused before any work starts", async (_, body, code) => {
      expectProblem(await train("review", body), 422, code);
    });

    test("a prompt to start from must be there", async () => {
      const init = { prompt: { task: "review", version: 99 } };
      expectProblem(await train("review", { ...quick, init }), 404, "prompt_not_found");
    });

    test("a data set of one label, or without the task's labels, is refused before any work starts", async () => {
      const send = (id: string, labels: string[]) =>
        server.call(
          "POST",
          `/datasets?id=${id}`,
          labels.map(label => `${JSON.stringify({ input: `Text ${label}.`, label })}\n`).join(""),
          { "content-type": "application/x-ndjson" },
        );
      await send("one-label", ["positive"]);
      await send("odd-labels", ["positive", "odd"]);
      expectProblem(await train("review", { dataset: "one-label" }), 422, "bad_dataset");
      const odd = await train("review", { dataset: "odd-labels" });
      expectProblem(odd, 422, "bad_dataset", { field: "examples", line: 2, label: "odd" });
      expect(odd.body.detail).toMatch(
        /data set odd-labels, line 2: .*positive, negative; or add it with PATCH/,
      );
    });

    test("validation examples that are all trained on fail the job; each is named", async () => {
      const job = await ended(await started("review", { ...quick, validation: reviews.slice(0, 2) }));
      expect(job).toMatchObject({
        state: "failed",
        error: { code: "bad_dataset", detail: expect.stringMatching(/left to validate/) },
      });
      expect(job.log.map((line: { text: string }) => line.text)).toContainEqual(
        expect.stringMatching(/^validation: 2 of them \(lines 1, 2\) are among the training examples/),
      );
    });

    test("examples that are too long are counted, and the lines of the file that was sent are named", async () => {
      const long = `"${"word ".repeat(50)}"`;
      const csv = `input,label\n"two\nlines",negative\nfine,positive\n${long},positive\n${long},negative\n`;
      const sent = await server.call("POST", "/datasets?id=long", csv, { "content-type": "text/csv" });
      expect(sent.body.duplicates).toEqual({ count: 0, lines: [] });
      expect(sent.body.conflicts).toEqual({ count: 1, lines: [6] });
      const { examples, ...rest } = quick;
      const job = await ended(await started("review", { ...rest, dataset: "long", max_tokens: 40 }));
      expect(job.error).toMatchObject({
        code: "bad_dataset",
        field: "examples",
        line: 5,
        count: 2,
        errors: [{ line: 5 }, { line: 6 }],
        detail: expect.stringMatching(/^examples: line 5: .*at most 40 fit.*max_tokens/),
      });
      const own = {
        ...quick,
        validation: [...validation, { input: long, label: "positive" }],
        max_tokens: 40,
      };
      expect((await ended(await started("review", own))).error).toMatchObject({
        field: "validation",
        line: 3,
      });
    });

    test("examples that repeat or contradict one another are told of in the job's log", async () => {
      const examples = [...reviews, reviews[0], { ...reviews[1], label: "positive" }];
      const job = await ended(await started("review", { ...quick, steps: 1, examples }));
      const log = job.log.map((line: { text: string }) => line.text);
      expect(log).toContainEqual("examples: 1 of them (line 9) repeat an earlier one");
      expect(log).toContainEqual(
        "examples: 1 of them (line 10) have an input that came with another label before",
      );
    });

    test("a loss that is no number fails the job with step, rate and remedy, and adds no version", async () => {
      const { prompts } = (await server.get("/tasks/review")).body;
      const job = await ended(
        await started("review", { ...quick, steps: 100, learning_rate: 100, warmup: 0, weight_decay: 10 }),
      );
      expect(job).toMatchObject({
        state: "failed",
        error: { code: "bad_tensor", step: expect.any(Number), learning_rate: expect.any(Number) },
      });
      expect(job.error.detail).toMatch(/lower learning_rate/);
      expect((await server.get("/tasks/review")).body.prompts).toBe(prompts);
    });

    test("after a look at validation, the best prompt so far stays as a version that is not active", async () => {
      const { prompts, active } = (await server.get("/tasks/review")).body;
      const id = await started("review", {
        ...quick,
        steps: 40,
        learning_rate: 100,
        warmup: 100,
        weight_decay: 10,
        activate: true,
      });
      const job = await ended(id);
      expect(job, JSON.stringify(job)).toMatchObject({
        state: "failed",
        error: { code: "bad_tensor", step: expect.any(Number), version: expect.any(Number) },
      });
      expect(job.error.step).toBeGreaterThan(10);
      expect(job.error.detail).toMatch(/lower learning_rate.*Version \d+ .* not active/);
      const task = (await server.get("/tasks/review")).body;
      expect([task.prompts, task.active]).toEqual([prompts + 1, active]);
      const kept = (await server.get(`/tasks/review/prompts/${job.error.version}`)).body;
      expect(kept).toMatchObject({ recipe: { job: id }, metrics: { kept_step: 10 } });
      const answer = await server.infer("review", { input: "Fine.", prompt: kept.version });
      expect(labels).toContain(answer.label);
    });
  });
});

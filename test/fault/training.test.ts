/** Training, and the server's process killed, its disk full: with real processes. */
import { createHash } from "node:crypto";
import { readdir } from "node:fs/promises";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import type { Job } from "../../src/contract/job.ts";
import { readPromptFile } from "../../src/prompt/file.ts";
import { childrenOf, runs } from "../support/children.ts";
import { foreword } from "../support/command.ts";
import { emptyDisk, fillDisk, surviving } from "../support/full-disk.ts";
import { ServerProcess } from "../support/server-process.ts";
import { describeShallow } from "../support/shallow.ts";

const MINUTES = 60_000;
const CHECKPOINT_SECONDS = 1;
/** Several checkpoints long, on a fast machine too. */
const STEPS = 240;
/** A step, its checkpoint's way to the disk, and a look at the job. */
const SLACK_MS = 2500;

const labels = ["positive", "negative"];
const examples = [
  ["A warm and funny film.", "positive"],
  ["Dull from start to end.", "negative"],
  ["I want to see it again.", "positive"],
  ["The plot makes no sense.", "negative"],
  ["Beautifully acted.", "positive"],
  ["A waste of two hours.", "negative"],
].map(([input, label]) => ({ input, label }));
const validation = [
  { input: "Charming and clever.", label: "positive" },
  { input: "Boring, long and loud.", label: "negative" },
];
const short = {
  examples,
  validation,
  length: 8,
  batch_size: 4,
  seed: 1,
  checkpoint_seconds: CHECKPOINT_SECONDS,
};

describeShallow("training through faults", path => {
  let server: ServerProcess;

  beforeAll(async () => {
    server = await ServerProcess.at(path);
    await server.begin({ FOREWORD_BACKBONE: path }, surviving);
    await server.ready();
    await server.json(
      server.post("/tasks", {
        id: "review",
        type: "classification",
        labels,
        prompt: { template: "Review: {{ input }}\nSentiment:" },
      }),
    );
  }, 5 * MINUTES);
  afterAll(() => server.remove());

  const job = (id: string): Promise<Job> => server.json(server.get(`/jobs/${id}`));
  const start = async (body: object): Promise<string> =>
    (await server.json(server.post("/tasks/review/train", body))).id;
  const texts = ({ log }: Job) => log.map(({ text }) => text).join("\n");

  async function ended(id: string): Promise<Job> {
    await server.until(async () => (await job(id)).ended_at !== null, 240);
    const record = await job(id);
    expect(record, `${texts(record)}\n${server.output.slice(-3000)}`).toMatchObject({
      state: "succeeded",
      error: null,
    });
    return record;
  }

  async function parameters({ result }: Job): Promise<string> {
    const file = await server.get(`/tasks/review/prompts/${result!.versions![0]}?format=safetensors`);
    const { prefix } = readPromptFile(new Uint8Array(await file.arrayBuffer()));
    const hash = createHash("sha256");
    for (const { buffer } of [prefix!.key, prefix!.value]) hash.update(new Uint8Array(buffer));
    return hash.digest("hex");
  }

  /** Its process is there, with the limits that the server had until now. */
  const training = (id: string) =>
    server.until(async () => /training \d+ positions/.test(texts(await job(id))), 60);

  async function step(id: string): Promise<number> {
    return (await job(id)).progress?.step ?? 0;
  }

  test(
    "kill -9 of the server: after a restart the job goes on from its last checkpoint and ends in the same bits",
    async () => {
      const body = { ...short, steps: STEPS };
      const whole = await ended(await start(body));

      const id = await start(body);
      const watching = foreword(["jobs", "watch", id, "--server", server.url]);
      const seen: { at: number; step: number }[] = [];
      await server.until(async () => {
        seen.push({ at: Date.now(), step: await step(id) });
        return seen.at(-1)!.step >= STEPS / 2;
      }, 120);
      const [trainer] = await childrenOf(server.pid, "training/process");
      expect(trainer).toBeDefined();
      const killed = Date.now();
      await server.stop("SIGKILL");
      await server.until(async () => !(await runs(trainer!, "training/process")), 30);

      await server.begin({ FOREWORD_BACKBONE: path }, surviving);
      const resumed = await ended(id);
      const from = Number(/going on from step (\d+)/.exec(texts(resumed))?.[1]);
      const due = killed - CHECKPOINT_SECONDS * 1000 - SLACK_MS;
      const least = Math.max(1, ...seen.filter(({ at }) => at <= due).map(each => each.step));
      expect(from, JSON.stringify(seen.at(-1))).toBeGreaterThanOrEqual(least);
      expect(resumed.progress?.step).toBe(STEPS);
      expect(await parameters(resumed)).toBe(await parameters(whole));
      const task = await server.json(server.get("/tasks/review"));
      expect(task.prompts).toBe(3);
      // Who watched on the command line saw the whole of it.
      const { code, out, err } = await watching;
      expect(code, err).toBe(0);
      expect(err).toMatch(/connecting again[\s\S]*going on from step \d+[\s\S]*step 240\/240/);
      expect(out).toMatch(/step 1 +240\n[\s\S]*accuracy on 2 validation examples: version 3 \d/);
    },
    6 * MINUTES,
  );

  test(
    "a disk too full for checkpoints: the job goes on, says so, and ends in the same bits",
    async () => {
      await server.ready();
      const { items } = await server.json(server.get("/jobs"));
      const whole = items.at(-1) as Job;
      const id = await start({ ...short, steps: STEPS });
      await training(id);
      // A checkpoint of this run has 350 kB, its prompt 50.
      await fillDisk(server.pid, 200_000);
      const record = await ended(id);
      await emptyDisk(server.pid);
      expect(texts(record)).toMatch(/a checkpoint was not saved; the one before stays/);
      expect(await parameters(record)).toBe(await parameters(whole));
      expect(await blobNames(server.data)).toEqual(
        expect.not.arrayContaining([expect.stringMatching(/^\./)]),
      );
    },
    4 * MINUTES,
  );

  test("a disk too full to start a trainer: the job fails and says what to do", async () => {
    const { prompts } = await server.json(server.get("/tasks/review"));
    await fillDisk(server.pid, 200_000);
    const id = await start({ ...short, steps: 4 });
    await server.until(async () => (await job(id)).ended_at !== null);
    await emptyDisk(server.pid);
    expect(await job(id)).toMatchObject({
      state: "failed",
      error: { code: "internal", detail: expect.stringMatching(/EFBIG.*Make room/) },
    });
    expect((await server.json(server.get("/tasks/review"))).prompts).toBe(prompts);
  });

  test(
    "a disk without any room at the end: requests are answered, and the prompt is saved when there is room",
    async () => {
      const { prompts } = await server.json(server.get("/tasks/review"));
      const id = await start({ ...short, steps: 80, checkpoint_seconds: 3600 });
      await training(id);
      await fillDisk(server.pid, 1);
      await server.until(async () => (await childrenOf(server.pid, "training/process")).length === 0, 120);
      await server.until(async () => /trained prompt can't be saved yet/.test(server.output), 30);
      expect(await job(id)).toMatchObject({ state: "running", ended_at: null });
      const answer = await server.json(server.post("/tasks/review/infer", { input: "Fine." }));
      expect(labels).toContain(answer.label);
      const refused = await server.post("/tasks", { id: "no-room", labels });
      expect(await refused.json()).toMatchObject({ status: 503, code: "registry_unavailable" });
      expect((await server.json(server.get("/tasks/review"))).prompts).toBe(prompts);

      await emptyDisk(server.pid);
      const record = await ended(id);
      expect((await server.json(server.get("/tasks/review"))).prompts).toBe(prompts + 1);
      const version = record.result!.versions![0]!;
      const reply = await server.json(
        server.post("/tasks/review/infer", { input: "Fine.", prompt: version }),
      );
      expect(reply.prompt).toEqual({ version, kind: "prefix" });
      expect(await blobNames(server.data)).toEqual(
        expect.not.arrayContaining([expect.stringMatching(/^\./)]),
      );
      expect(await server.stop("SIGTERM")).toBe(0);
    },
    4 * MINUTES,
  );
});

async function blobNames(data: string): Promise<string[]> {
  const entries = await readdir(join(data, "registry", "blobs"), { recursive: true, withFileTypes: true });
  return entries.filter(entry => entry.isFile()).map(({ name }) => name);
}

/** The scheduler over a real batch on a tiny checkpoint: what is shared, bounded, cancelled and survived. */
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, beforeEach, expect, onTestFinished, test, vi } from "vitest";
import { keepingGraph } from "../../../src/backbone/kept.ts";
import { type BackboneConfig, openBackbone } from "../../../src/backbone/source.ts";
import { compileBackbone } from "../../../src/compile/backbone.ts";
import { Batch } from "../../../src/engine/batch.ts";
import { fill } from "../../../src/engine/feed.ts";
import { type Program, Scheduler, type SchedulerLimits } from "../../../src/engine/scheduler.ts";
import { createRuntime } from "../../../src/runtime/create.ts";
import type { Session } from "../../../src/runtime/runtime.ts";

const checkpoint = fileURLToPath(new URL("../../fixtures/reference/tiny/llama", import.meta.url));
const roomy: SchedulerLimits = {
  batchTokens: 64,
  batchTokensWhileDecoding: 16,
  runBytes: 2 ** 30,
  seats: 4,
  seatBytes: 2 ** 30,
  queue: 100,
};

let cache: string;
let config: BackboneConfig;
let session: Session;
/** Tokens of every run, the memory that its pasts lie in, and what a run may be made to do. */
let runs: { tokens: number; rows: number }[];
let memory: ArrayBufferLike[];
let failing: Error | null;

beforeAll(async () => {
  cache = await mkdtemp(join(tmpdir(), "foreword-scheduler-"));
  const source = await openBackbone(checkpoint);
  config = source.config;
  const { graph, weights } = await compileBackbone(source, cache, () => {});
  session = await (await createRuntime("onnx", 1)).load(keepingGraph(graph, config.layers), weights);
  await source.close();
});
afterAll(async () => {
  await session.close();
  await rm(cache, { recursive: true, force: true });
});
beforeEach(() => {
  runs = [];
  memory = [];
  failing = null;
});

function scheduler(limits: Partial<SchedulerLimits> = {}): Scheduler {
  const watched: Session = {
    run: (feeds, fetches) => {
      runs.push({ tokens: feeds.ids!.dims[0]!, rows: feeds.pad!.dims[0]! });
      memory.push((feeds["past_key.0"]!.data as Float32Array).buffer);
      return failing ? Promise.reject(failing) : session.run(feeds, fetches);
    },
    close: async () => {},
  };
  return new Scheduler(new Batch(watched, config), config, { ...roomy, ...limits });
}

const far = { deadline: Date.now() + 600_000, cancelled: () => false };
const prefill = (length: number) =>
  fill([], [{ ids: Array.from({ length }, (_, i) => i % config.vocabSize) }]);

/** Prefills, takes a seat and decodes `count` tokens, greedily. */
function* story(to: Scheduler, length: number, count: number, onToken = () => {}): Program<number[]> {
  const past = yield* prefill(length);
  const seat = to.take(past);
  const tokens = [1];
  try {
    while (tokens.length < count) {
      const { next } = yield { kind: "decode", seat, token: tokens.at(-1)!, logits: false };
      tokens.push(next!.best);
      onToken();
    }
  } finally {
    to.leave(seat);
  }
  return tokens;
}

test("rows that come together share a run, up to its tokens", async () => {
  const one = scheduler();
  await Promise.all(Array.from({ length: 10 }, () => one.submit(prefill(10), { seat: null, ...far })));
  expect(runs).toEqual([
    { tokens: 60, rows: 6 },
    { tokens: 40, rows: 4 },
  ]);
});

test("keys, values and scores of a run are bounded too", async () => {
  const past = await scheduler().submit(prefill(40), { seat: null, ...far });
  const own = await scheduler().submit(prefill(40), { seat: null, ...far });
  const bytes = config.layers * config.kvHeads * config.headDim * 2 * 4 * 40;
  const bounded = scheduler({ runBytes: 3 * bytes });
  runs = [];
  const after = (blocks: typeof past) =>
    bounded.submit(fill(blocks, [{ ids: [1, 2] }]), { seat: null, ...far });
  await Promise.all([past, own, past, own, past, own, past].map(after));
  expect(runs.map(({ rows }) => rows)).toEqual([3, 3, 1]);
  // One past that all rows share is not copied, so nothing bounds them.
  runs = [];
  await Promise.all(Array.from({ length: 7 }, () => after(past)));
  expect(runs.map(({ rows }) => rows)).toEqual([7]);
});

test("memory in which pasts lie side by side is used again, and given back when nothing runs any more", async () => {
  const [past, own] = await Promise.all(
    [40, 40].map(length => scheduler().submit(prefill(length), { seat: null, ...far })),
  );
  const one = scheduler();
  const after = () =>
    Promise.all(
      [past!, own!].map(blocks => one.submit(fill(blocks, [{ ids: [1, 2] }]), { seat: null, ...far })),
    );
  vi.useFakeTimers({ toFake: ["setTimeout", "clearTimeout"] });
  onTestFinished(() => void vi.useRealTimers());
  memory = [];
  await after();
  vi.advanceTimersByTime(9_000);
  await after();
  expect(memory).toHaveLength(2);
  expect(memory[1]).toBe(memory[0]);
  await one.idle();
  vi.advanceTimersByTime(11_000);
  await after();
  expect(memory[2]).not.toBe(memory[0]);
});

test("a row's tokens do not depend on who decodes beside it, comes or leaves", async () => {
  const alone = await scheduler().submit(story(scheduler(), 5, 1), {
    seat: { length: 4, tokens: 4 },
    ...far,
  });
  expect(alone).toEqual([1]);
  const lone = scheduler();
  const expected = await lone.submit(story(lone, 7, 12), { seat: { length: 4, tokens: 16 }, ...far });
  const busy = scheduler();
  const others = [3, 9, 2, 6, 4].map((count, at) =>
    busy.submit(story(busy, 4 + at, count), { seat: { length: 4, tokens: 16 }, ...far }),
  );
  const among = busy.submit(story(busy, 7, 12), { seat: { length: 4, tokens: 16 }, ...far });
  await Promise.all(others);
  expect(await among).toEqual(expected);
});

test("seats bound how many decode at once, in number and in bytes", async () => {
  const decoded = async (limits: Partial<SchedulerLimits>) => {
    const one = scheduler({ batchTokensWhileDecoding: 64, ...limits });
    runs = [];
    await Promise.all(
      Array.from({ length: 6 }, () =>
        one.submit(story(one, 4, 4), { seat: { length: 4, tokens: 4 }, ...far }),
      ),
    );
    return Math.max(...runs.filter(run => run.tokens === run.rows).map(run => run.rows));
  };
  expect(await decoded({})).toBe(4);
  const position = config.layers * config.kvHeads * config.headDim * 2 * 4;
  expect(await decoded({ seatBytes: 2 * 8 * position })).toBe(2);
  // A row that alone needs more than there is may still run.
  expect(await decoded({ seatBytes: 1 })).toBe(1);
});

test("a row that may grow long keeps out only what would be there with it", async () => {
  const position = config.layers * config.kvHeads * config.headDim * 2 * 4;
  const one = scheduler({ batchTokensWhileDecoding: 64, seatBytes: 32 * position });
  const told = (count: number) =>
    one.submit(story(one, 4, count), { seat: { length: 4, tokens: count }, ...far });
  // The last may come to 28 positions, when the others are gone.
  await Promise.all([4, 4, 4, 24].map(told));
  expect(Math.max(...runs.filter(run => run.tokens === run.rows).map(run => run.rows))).toBe(4);
});

test("long requests take turns with those that came later, one at a time", async () => {
  const one = scheduler();
  const ended: string[] = [];
  const long = async (name: string) => {
    const ids = Array.from({ length: 120 }, (_, i) => i % config.vocabSize);
    await one.submit(fill([], [{ ids }], 30), { seat: null, long: true, ...far });
    ended.push(name);
  };
  const short = async () => {
    await one.submit(prefill(30), { seat: null, ...far });
    ended.push("short");
  };
  await Promise.all([long("first"), long("second"), ...Array.from({ length: 6 }, short)]);
  // A part of a long one and one of the others fill a run, two of the others the next.
  expect(ended).toEqual([...Array(6).fill("short"), "first", "second"]);
});

test("who waits for a seat holds up nobody who needs none", async () => {
  const one = scheduler({ seats: 1 });
  const ended: string[] = [];
  const note = (name: string) => () => void ended.push(name);
  await Promise.all([
    one.submit(story(one, 4, 30), { seat: { length: 4, tokens: 36 }, ...far }).then(note("first story")),
    one.submit(story(one, 4, 30), { seat: { length: 4, tokens: 36 }, ...far }).then(note("second story")),
    one.submit(prefill(10), { seat: null, ...far }).then(note("one")),
    one.submit(prefill(10), { seat: null, ...far }).then(note("two")),
  ]);
  expect(ended).toEqual(["one", "two", "first story", "second story"]);
});

test("a long prefill does not hold up rows that decode", async () => {
  const one = scheduler();
  let tokens = 0;
  const telling = one.submit(
    story(one, 4, 30, () => tokens++),
    { seat: { length: 4, tokens: 36 }, ...far },
  );
  while (tokens < 2) await new Promise(setImmediate);
  const before = tokens;
  await Promise.all(Array.from({ length: 8 }, () => one.submit(prefill(16), { seat: null, ...far })));
  expect(tokens - before).toBeGreaterThanOrEqual(7);
  await telling;
});

test("who went away, or is too late, leaves at the next step, whether waiting or running", async () => {
  const one = scheduler({ seats: 1 });
  let gone = false;
  let tokens = 0;
  const running = one.submit(
    story(one, 4, 1000, () => tokens++),
    {
      seat: { length: 4, tokens: 1000 },
      deadline: far.deadline,
      cancelled: () => gone,
    },
  );
  const waiting = one.submit(story(one, 4, 10), {
    seat: { length: 4, tokens: 10 },
    // Sooner than the one that runs comes to the context's end.
    deadline: Date.now() + 5,
    cancelled: () => false,
  });
  const patient = one.submit(story(one, 4, 10), { seat: { length: 4, tokens: 10 }, ...far });
  await expect(waiting).rejects.toMatchObject({ code: "deadline" });
  const seen = tokens;
  gone = true;
  await expect(running).rejects.toMatchObject({ code: "deadline" });
  expect(tokens).toBeLessThanOrEqual(seen + 2);
  expect(await patient).toHaveLength(10);
  expect([one.queued, one.running]).toEqual([0, 0]);
});

test("a full queue refuses at once", async () => {
  const one = scheduler({ queue: 3 });
  const all = await Promise.allSettled(
    Array.from({ length: 5 }, () => one.submit(prefill(4), { seat: null, ...far })),
  );
  expect(all.map(({ status }) => status)).toEqual([
    "fulfilled",
    "fulfilled",
    "fulfilled",
    "rejected",
    "rejected",
  ]);
});

test("a run that fails fails its rows alone, and frees their seats", async () => {
  const one = scheduler();
  const doomed = one.submit(
    story(one, 4, 50, () => {
      failing = new Error("out of memory");
    }),
    { seat: { length: 4, tokens: 50 }, ...far },
  );
  await expect(doomed).rejects.toThrow("out of memory");
  failing = null;
  expect(one.running).toBe(0);
  expect(await one.submit(story(one, 4, 5), { seat: { length: 4, tokens: 5 }, ...far })).toHaveLength(5);
});

test("the background is worked on when nothing else is there, a few tokens a run, and decodes one by one", async () => {
  const one = scheduler();
  const ended: string[] = [];
  const background = { ...far, background: true };
  const note = (name: string) => () => ended.push(name);
  const later = [
    one.submit(prefill(12), { seat: null, ...background }).then(note("later")),
    one.submit(prefill(12), { seat: null, ...background }).then(note("later")),
    one
      .submit(story(one, 6, 3), { seat: { length: 4, tokens: 16 }, ...background })
      .then(note("later story")),
    one
      .submit(story(one, 6, 3), { seat: { length: 4, tokens: 16 }, ...background })
      .then(note("later story")),
  ];
  const now = Array.from({ length: 10 }, () =>
    one.submit(prefill(10), { seat: null, ...far }).then(note("now")),
  );
  await Promise.all(now);
  // One after another leaves no quiet in which the background could begin.
  for (let times = 0; times < 5; times++)
    await one.submit(prefill(10), { seat: null, ...far }).then(note("and now"));
  await Promise.all(later);
  const asked = [...Array(10).fill("now"), ...Array(5).fill("and now")];
  expect(ended).toEqual([...asked, "later", "later", "later story", "later story"]);
  expect(runs.slice(0, 2)).toEqual([
    { tokens: 60, rows: 6 },
    { tokens: 40, rows: 4 },
  ]);
  // 16 tokens a run, and then never two rows at once: each story is a prefill and two steps.
  expect(runs.slice(7).every(({ tokens }) => tokens <= 16)).toBe(true);
  expect(runs.slice(-6).map(({ rows }) => rows)).toEqual(Array(6).fill(1));
});

test("who comes while the background decodes is prefilled in the next run, and has its seat", async () => {
  const one = scheduler({ seats: 1 });
  let told = () => {};
  const decoding = new Promise<void>(resolve => {
    told = resolve;
  });
  const later = one.submit(story(one, 6, 1000, told), {
    seat: { length: 4, tokens: 1096 },
    ...far,
    background: true,
  });
  const refused = expect(later).rejects.toMatchObject({ code: "deadline", message: /made room/ });
  await decoding;
  runs = [];
  const answer = await one.submit(story(one, 8, 4), { seat: { length: 4, tokens: 16 }, ...far });
  expect(answer).toHaveLength(4);
  await refused;
  // At most the step that ran when it came, then its own prefill.
  expect(runs.slice(0, 2).map(({ tokens }) => tokens)).toContain(8);
  expect(one.running + one.queued).toBe(0);
});

test("a row that needs something besides the step goes on once that is there", async () => {
  const s = scheduler();
  let give = () => {};
  const ready = new Promise<void>(resolve => {
    give = resolve;
  });
  let resumed = false;
  function* waits(): Program<void> {
    const seat = s.take(yield* prefill(3));
    yield { kind: "decode", seat, token: 1, logits: false, ready };
    resumed = true;
    s.leave(seat);
  }
  const answer = s.submit(waits(), { ...far, seat: { length: 3, tokens: 1 } });
  await expect.poll(() => runs.length, { interval: 1 }).toBe(2);
  await new Promise(resolve => setTimeout(resolve, 20));
  expect(resumed).toBe(false);
  give();
  await answer;
  expect(resumed).toBe(true);
});

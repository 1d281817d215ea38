/** Every command that the READMEs show, run in their order in a fresh copy: a reader can type them all. */
import { dirname } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { describeBackbone } from "../support/backbone.ts";
import { freePort } from "../support/port.ts";
import { describeRedis } from "../support/redis.ts";
import { RedisServer } from "../support/redis-server.ts";
import { reviewsOf } from "../support/reviews.ts";
import { type Block, blocksOf, Reader } from "./shell.ts";

const MINUTES = 60_000;
const tickets = ["billing", "technical", "account"].flatMap(label =>
  Array.from({ length: 20 }, (_, at) => ({ input: `Number ${at}: it is a matter of ${label}.`, label })),
);
const all = await blocksOf("README.md");
/** Docker's are test/deploy's. */
const blocks = all.filter(({ script }) => !script.includes("docker compose"));
/** What starts and goes on; the rest ends. */
const starts = ({ script }: Block) => /npm start|-- worker/.test(script);

/** With the server's own port, the id that a job was answered with, and the examples shown put behind those that are there. */
const filledIn = (script: string, port: number): string =>
  script
    .replaceAll("localhost:8080", `localhost:${port}`)
    .replace("JOB=…", "JOB=$(cat .job)")
    .replace("> reviews.jsonl", ">> reviews.jsonl");

test("both languages show the same commands", async () => {
  const bare = ({ script }: Block) => script.replace(/\s+#.*$/gm, "").trim();
  expect((await blocksOf("README.zh-CN.md")).map(bare)).toEqual(all.map(bare));
});

describeBackbone("README.md", backbone => {
  let reader: Reader;
  let port: number;
  const mirror = { FOREWORD_MIRROR: dirname(backbone), FOREWORD_LOG_LEVEL: "info" };
  const readyAt = (url: string) => async () => (await fetch(`${url}/readyz`).catch(() => null))?.ok ?? false;

  beforeAll(async () => {
    port = await freePort();
    const url = `http://127.0.0.1:${port}`;
    reader = await Reader.arrive({ ...mirror, FOREWORD_PORT: String(port), FOREWORD_SERVER: url });
    await reader.write("reviews.jsonl", reviewsOf(["film", "play", "song"]));
    await reader.write("tickets.jsonl", tickets);
    const first = blocks.find(starts)!.script.split("&&").at(-1)!;
    await reader.start(first, readyAt(url));
  }, 10 * MINUTES);
  afterAll(() => reader?.leave(), MINUTES);

  const ended = blocks.filter(block => !starts(block));
  test.each(ended.map((block, at) => [`${at + 1}, ${block.heading}`, block.script] as const))(
    "block %s",
    { timeout: 20 * MINUTES },
    async (_, script) => {
      if (script.includes("adapter/"))
        await reader.run("npm run --silent foreword -- prompts export sentiment 2 adapter/");
      expect(await reader.run(filledIn(script, port))).not.toBe("");
    },
  );

  describeRedis("several servers", () => {
    let redis: RedisServer;
    beforeAll(async () => {
      redis = await RedisServer.start([]);
    });
    afterAll(() => redis.remove());

    test("start as they are told to", { timeout: 10 * MINUTES }, async () => {
      const [, several] = blocks.filter(starts);
      const lines = several!.script.trim().replaceAll("redis://localhost:6379", redis.url).split("\n");
      const other = await freePort();
      const set = (line: string) =>
        `export FOREWORD_PORT=${other} FOREWORD_DATA=data-${lines.indexOf(line)}\n${line}`;
      const [server, worker] = lines as [string, string];
      await reader.start(set(server), readyAt(`http://127.0.0.1:${other}`));
      await reader.start(set(worker), output => output.includes("the worker takes jobs"));
    });
  });
});

import { type FastifyBaseLogger, fastify } from "fastify";
import { expect, test } from "vitest";
import { createLogger } from "../../../src/observe/log.ts";
import { RequestLog } from "../../../src/server/request-log.ts";

test("a request is one line, without its query; probes are told of at debug alone", async () => {
  const lines: string[] = [];
  const loggerInstance = createLogger("debug", { write: line => lines.push(line) }) as FastifyBaseLogger;
  const app = fastify({ loggerInstance, logController: new RequestLog() });
  for (const route of ["/tasks", "/healthz"]) app.get(route, async () => ({}));
  await app.inject("/tasks?q=secret");
  await app.inject("/healthz");
  const [asked, probed, ...more] = lines.map(line => JSON.parse(line));
  expect(more).toEqual([]);
  expect(asked).toMatchObject({
    level: 30,
    msg: "answered",
    reqId: expect.anything(),
    req: { method: "GET", url: "/tasks" },
    res: { status: 200 },
    ms: expect.any(Number),
  });
  expect(probed).toMatchObject({ level: 20, req: { url: "/healthz" } });
  expect(lines.join("")).not.toContain("secret");
  await app.close();
});

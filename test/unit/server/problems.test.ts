import fastify, { type FastifyBaseLogger } from "fastify";
import { expect, test } from "vitest";
import { ForewordError } from "../../../src/errors.ts";
import { createLogger } from "../../../src/observe/log.ts";
import type { App } from "../../../src/server/dependencies.ts";
import { installProblems } from "../../../src/server/problems.ts";

/** What a route's failure writes into the log. */
async function logged(error: Error): Promise<{ status: number; code: string; log: string }> {
  const lines: string[] = [];
  const stream = { write: (line: string) => void lines.push(line) };
  const app = fastify({
    loggerInstance: createLogger("error", stream) as FastifyBaseLogger,
  }) as unknown as App;
  installProblems(app);
  app.get("/", () => {
    throw error;
  });
  const reply = await app.inject({ url: "/" });
  return { status: reply.statusCode, code: reply.json().code, log: lines.join("") };
}

test("the cause of a failure of ours is in the log, as its problem says", async () => {
  const full = new ForewordError(
    "registry_unavailable",
    "See the log.",
    {},
    { cause: new Error("disk full") },
  );
  expect(await logged(full)).toMatchObject({
    status: 503,
    code: "registry_unavailable",
    log: expect.stringContaining("disk full"),
  });
  expect(await logged(new TypeError("x is undefined"))).toMatchObject({
    status: 500,
    code: "internal",
    log: expect.stringContaining("x is undefined"),
  });
});

test("a caller's mistake is not", async () => {
  expect(await logged(new ForewordError("validation", "No."))).toMatchObject({ status: 422, log: "" });
});

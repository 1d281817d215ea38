import { describe, expect, it } from "vitest";
import { ForewordError } from "../../src/errors.ts";
import { growth } from "../../src/observe/growth.ts";
import { createLogger } from "../../src/observe/log.ts";
import { createMetrics } from "../../src/observe/metrics.ts";

describe("log", () => {
  it("writes JSON lines at its level, and never texts or keys of callers", () => {
    const lines: string[] = [];
    const log = createLogger("info", { write: line => lines.push(line) });
    const secret = "my password is hunter2";
    log.debug("not at this level");
    log.info({ input: secret, inputs: [secret], task: "t" }, "inferred");
    log.info({ body: { input: secret, examples: [{ input: secret }] }, headers: { authorization: secret } });
    log.info({ request: { headers: { authorization: secret }, body: { messages: [secret] } } });
    log.info({
      req: { id: 1, method: "GET", url: `/tasks?q=${secret}`, headers: { authorization: secret } },
    });
    expect(lines).toHaveLength(4);
    expect(lines.join("")).not.toContain("hunter2");
    expect(JSON.parse(lines[0]!)).toMatchObject({ level: 30, msg: "inferred", task: "t" });
    expect(JSON.parse(lines[3]!).req).toEqual({ method: "GET", url: "/tasks" });
  });

  it("tells of a foreseen error without a stack, and of what lies behind it with one", () => {
    const lines: string[] = [];
    const log = createLogger("info", { write: line => lines.push(line) });
    const behind = new Error("no such file");
    const foreseen = new ForewordError("bad_backbone", "It can't be read.", {}, { cause: behind });
    for (const err of [new ForewordError("bad_backbone", "There is none."), foreseen, behind])
      log.error({ err }, "failed");
    const [plain, caused, unforeseen] = lines.map(line => JSON.parse(line).err);
    expect(plain).toEqual({ type: "ForewordError", code: "bad_backbone", message: "There is none." });
    expect(caused).toMatchObject({ message: "It can't be read.", cause: { message: "no such file" } });
    expect(caused).not.toHaveProperty("stack");
    for (const { stack } of [caused.cause, unforeseen]) expect(stack).toMatch(/^\s+at /m);
  });
});

describe("metrics", () => {
  it("show what was counted, and share nothing between servers", async () => {
    const [one, other] = [createMetrics(), createMetrics()];
    one.requests.inc({ route: "/tasks/:id", method: "GET", status: "200" });
    one.stepSeconds.inc(0.5);
    one.runtimeInfo.set({ runtime: "onnx", backend: "cpu", version: "1" }, 1);
    const text = await one.register.metrics();
    expect(text).toContain('foreword_http_requests_total{route="/tasks/:id",method="GET",status="200"} 1');
    expect(text).toContain("foreword_step_seconds_total 0.5");
    expect(text).toContain('foreword_runtime_info{runtime="onnx",backend="cpu",version="1"} 1');
    expect(text).toContain("nodejs_eventloop_lag_seconds");
    expect(await other.register.metrics()).not.toContain('route="/tasks/:id"');
  });
});

describe("totals of a part that is started again", () => {
  it("grow by what came since the last look, and never shrink", () => {
    const grownBy = growth<"steps" | "tokens">();
    expect(grownBy({ steps: 3, tokens: 10 })).toEqual({ steps: 3, tokens: 10 });
    expect(grownBy({ steps: 5, tokens: 10 })).toEqual({ steps: 2, tokens: 0 });
    expect(grownBy({ steps: 7, tokens: 4 })).toEqual({ steps: 2, tokens: 4 });
    expect(grownBy({ steps: 0, tokens: 4 })).toEqual({ steps: 0, tokens: 0 });
    expect(grownBy({ steps: 1, tokens: 6 })).toEqual({ steps: 1, tokens: 2 });
  });
});

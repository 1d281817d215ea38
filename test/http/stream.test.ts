import { afterAll, beforeAll, expect, test } from "vitest";
import { describeBackbone } from "../support/backbone.ts";
import { startServer, type TestServer } from "./server.ts";

interface ServerEvent {
  event: string;
  // biome-ignore lint/suspicious/noExplicitAny: an event's shape is what the tests are about
  data: any;
}

/** Events of an SSE response (WHATWG HTML, section 9.2), as they come. */
async function* events(response: Response): AsyncGenerator<ServerEvent> {
  let rest = "";
  for await (const chunk of response.body!.pipeThrough(new TextDecoderStream())) {
    const blocks = (rest + chunk).split("\n\n");
    rest = blocks.pop()!;
    for (const block of blocks) {
      const field = (name: string) =>
        block
          .split("\n")
          .filter(line => line.startsWith(`${name}: `))
          .map(line => line.slice(name.length + 2))
          .join("\n");
      yield { event: field("event"), data: JSON.parse(field("data")) };
    }
  }
}

describeBackbone("streams", path => {
  let server: TestServer;
  beforeAll(async () => {
    server = await startServer(path);
    await server.task({ id: "go", type: "generation", prompt: { template: "{{ input }}" } });
  });
  afterAll(() => server.close());

  const open = (body: object, signal?: AbortSignal) =>
    fetch(`${server.url}/tasks/go/infer`, {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify({ stream: true, ...body }),
      ...(signal && { signal }),
    });

  test("JSON that the limit cuts is closed in the stream too", async () => {
    const json_schema = {
      type: "object",
      properties: {
        name: { type: "string" },
        tags: { type: "array", items: { type: "string" }, minItems: 1 },
      },
      required: ["name", "tags"],
    };
    const all: ServerEvent[] = [];
    for await (const event of events(await open({ input: "A cat: ", json_schema, max_tokens: 6 })))
      all.push(event);
    const { text, finish_reason } = all.at(-1)!.data;
    expect(finish_reason).toBe("length");
    expect(JSON.parse(text)).toMatchObject({ name: expect.any(String), tags: [expect.any(String)] });
    const tokens = all.filter(({ event }) => event === "token").map(({ data }) => data.text);
    expect(tokens.join("")).toBe(text);
  });

  test("tokens as they come, then the whole reply", async () => {
    const request = {
      input: "Once upon a time, in a land far away, there lived a",
      max_tokens: 24,
      logprobs: 1,
    };
    const response = await open(request);
    expect(response.headers.get("content-type")).toContain("text/event-stream");
    const all: ServerEvent[] = [];
    for await (const event of events(response)) all.push(event);
    const tokens = all.filter(({ event }) => event === "token").map(({ data }) => data);
    const done = all.at(-1)!;
    expect(done.event).toBe("done");
    expect(tokens.map(({ text }) => text).join("")).toBe(done.data.text);
    expect(tokens.length).toBeGreaterThan(5);
    for (const { index, logprob } of tokens) {
      expect(index).toBeGreaterThanOrEqual(0);
      expect(logprob).toBeLessThanOrEqual(0);
    }
    const whole = await server.infer("go", request);
    expect(done.data).toMatchObject({ text: whole.text, finish_reason: whole.finish_reason });
  });

  test("characters of several bytes never come in halves", async () => {
    const input = "表情：😀😀😀 🎉🎉🎉 😀😀";
    const all: ServerEvent[] = [];
    for await (const event of events(await open({ input, max_tokens: 20, logprobs: 0 }))) all.push(event);
    const tokens = all.filter(({ event }) => event === "token").map(({ data }) => data);
    expect(tokens.map(({ text }) => text).join("")).not.toContain("\uFFFD");
    // A token that is part of a character has no text yet, and a log-probability all the same.
    const told = tokens.flatMap(({ logprob }) => (logprob === undefined ? [] : [logprob]));
    expect(told).toEqual(all.at(-1)!.data.logprobs.map(({ logprob }: { logprob: number }) => logprob));
    expect(tokens.some(({ text }) => text === "")).toBe(true);
  });

  test("a client that goes away frees its row at the next step", async () => {
    const controller = new AbortController();
    const response = await open({ input: "Once upon a time", max_tokens: 4000 }, controller.signal);
    const reader = events(response);
    await reader.next();
    expect(await server.metric("foreword_running_rows")).toBe(1);
    controller.abort();
    await reader.next().catch(() => {});
    await expect.poll(() => server.metric("foreword_running_rows"), { timeout: 3000 }).toBe(0);
  });

  test("a request whose caller does not wait for the reply is counted", async () => {
    const gone = () =>
      server.metric('foreword_http_requests_total{route="/tasks/:id/infer",method="POST",status="499"}');
    const before = (await gone()) || 0;
    const response = fetch(`${server.url}/tasks/go/infer`, {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify({ input: "Once upon a time", max_tokens: 4000 }),
      signal: AbortSignal.timeout(300),
    });
    await expect(response).rejects.toThrow();
    await expect.poll(gone, { timeout: 3000 }).toBe(before + 1);
    await expect.poll(() => server.metric("foreword_running_rows"), { timeout: 3000 }).toBe(0);
  });

  test.each([
    ["an input without a text", { input: "" }, 422, "empty_input"],
    ["a version that is not there", { input: "a", prompt: 99 }, 404, "prompt_not_found"],
  ])("what is refused before the first token is a reply of its own: %s", async (_, body, status, code) => {
    const response = await open(body);
    expect(response.status).toBe(status);
    expect(response.headers.get("content-type")).toContain("application/problem+json");
    expect(await response.json()).toMatchObject({ status, code });
  });

  test("what goes wrong on the way is an event", async () => {
    const all: ServerEvent[] = [];
    for await (const event of events(
      await open({ input: "Once upon a time", max_tokens: 4000, timeout_ms: 1500 }),
    ))
      all.push(event);
    expect(all.at(-1)).toMatchObject({ event: "error", data: { code: "deadline", status: 504 } });
  });
});

/** Against a server that breaks connections wherever a network may. */
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { afterEach, expect, test } from "vitest";
import { events } from "../../../src/cli/events.ts";

type Answer = (response: ServerResponse, request: IncomingMessage) => void;

let server: Server;
afterEach(() => {
  server.closeAllConnections();
  server.close();
});

/** Each connection gets the next answer; the headers that came are kept. */
async function serve(...answers: Answer[]) {
  const asked: (string | undefined)[] = [];
  server = createServer((request, response) => {
    asked.push(request.headers["last-event-id"] as string | undefined);
    answers[Math.min(asked.length, answers.length) - 1]!(response, request);
  });
  await new Promise<void>(resolve => server.listen(0, "127.0.0.1", resolve));
  return { flags: { server: `http://127.0.0.1:${(server.address() as AddressInfo).port}` }, asked };
}

const stream = (...chunks: (string | Buffer)[]): Answer => {
  return async response => {
    response.writeHead(200, { "content-type": "text/event-stream" });
    for (const chunk of chunks) {
      response.write(chunk);
      await new Promise(resolve => setTimeout(resolve, 20));
    }
    response.destroy();
  };
};
const problem =
  (status: number, code: string): Answer =>
  response => {
    response.writeHead(status, { "content-type": "application/problem+json" });
    response.end(JSON.stringify({ code, detail: `It is ${code}.`, status, title: "", type: "" }));
  };

/** Data until one says `end`. */
async function read(flags: { server: string }, broken: string[] = []): Promise<string[]> {
  const heard: string[] = [];
  const { signal } = new AbortController();
  for await (const { data } of events(flags, "/events", { signal, onBroken: why => broken.push(why) })) {
    heard.push(data);
    if (data === "end") break;
  }
  return heard;
}

test("a connection that breaks inside an event goes on behind the last whole one", async () => {
  const broken: string[] = [];
  const { flags, asked } = await serve(
    stream("id: 3\nevent: log\ndata: one\n\n", ": still here\n\n", "id: 4\ndata: hal"),
    problem(503, "draining"),
    stream("id: 4\ndata: two\n\nid: 5\ndata: end\n\n"),
  );
  expect(await read(flags, broken)).toEqual(["one", "two", "end"]);
  expect(asked).toEqual([undefined, "3", "3"]);
  expect(broken.length).toBe(2);
});

test("characters and line breaks that are cut between chunks stay whole", async () => {
  const bytes = Buffer.from("id: 1\ndata: 好的\n\nid: 2\ndata: end\n\n");
  const { flags } = await serve(
    stream(...Array.from({ length: bytes.length }, (_, i) => bytes.subarray(i, i + 1))),
  );
  expect(await read(flags)).toEqual(["好的", "end"]);
});

test("a problem that stays is thrown as the server described it", async () => {
  const { flags, asked } = await serve(problem(404, "job_not_found"));
  await expect(read(flags)).rejects.toMatchObject({ code: "job_not_found", message: "It is job_not_found." });
  expect(asked.length).toBe(1);
});

test("whoever stops listening is let go at once, also between two connections", async () => {
  const { flags } = await serve(stream("id: 1\ndata: one\n\n"));
  const controller = new AbortController();
  const listening = (async () => {
    for await (const _ of events(flags, "/events", {
      signal: controller.signal,
      onBroken: () => setTimeout(() => controller.abort(), 50),
    }));
  })();
  await expect(listening).rejects.toMatchObject({ name: "AbortError" });
});

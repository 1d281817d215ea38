/** What is asked of a server: its address, the paths, and lists that are longer than a page. */
import { createServer, type Server, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { afterEach, beforeEach, expect, test } from "vitest";
import { call, listAll, route, table } from "../../../src/cli/request.ts";

/** Answers each request with the next of `replies`, and after them with the last one. */
let server: Server;
let port: number;
let asked: string[];
let replies: object[];
beforeEach(async () => {
  [asked, replies] = [[], [{}]];
  server = createServer((request, response) => {
    asked.push(request.url!);
    response.setHeader("content-type", "application/json");
    response.end(JSON.stringify(replies[Math.min(asked.length, replies.length) - 1]));
  }).listen(0, "127.0.0.1");
  await new Promise(resolve => server.once("listening", resolve));
  ({ port } = server.address() as AddressInfo);
});
afterEach(() => server.close());

test("every page of a list is asked for, with what was asked at first", async () => {
  replies = [1, 2, 3].map(page => ({ items: [page], next_cursor: page < 3 ? `c ${page}` : null }));
  const flags = { server: `http://127.0.0.1:${port}` };
  expect(await listAll(flags, "/jobs?task=t")).toEqual({ items: [1, 2, 3] });
  expect(asked).toEqual([
    "/jobs?task=t&limit=1000",
    "/jobs?task=t&limit=1000&cursor=c+1",
    "/jobs?task=t&limit=1000&cursor=c+2",
  ]);
});

test.each([
  ["127.0.0.1:PORT", "/tasks"],
  ["http://127.0.0.1:PORT/", "/tasks"],
  ["HTTP://127.0.0.1:PORT/prefix", "/prefix/tasks"],
  ["http://127.0.0.1:PORT/a/prefix//?x=1#there", "/a/prefix/tasks"],
])("a server at %s is asked for %s", async (address, wanted) => {
  await call({ server: address.replace("PORT", String(port)) }, "GET", "/tasks");
  expect(asked).toEqual([wanted]);
});

test.each(["", "http://", "ftp://127.0.0.1", "127.0.0.1:http", "a b"])(
  "%j is no address, and one is shown",
  async address => {
    await expect(call({ server: address }, "GET", "/tasks")).rejects.toMatchObject({
      code: "validation",
      message: expect.stringMatching(/^--server: ".*" is no address.*http:\/\/127\.0\.0\.1:8080/),
    });
  },
);

test.each(["http://bob:hunter2@127.0.0.1:PORT", "hunter2@127.0.0.1:PORT", "http://bob:hunter2@127.0.0.1:no"])(
  "a password in an address has no use, and is not repeated: %s",
  async address => {
    const refusal = await call({ server: address.replace("PORT", String(port)) }, "GET", "/tasks").catch(
      String,
    );
    expect(refusal).toMatch(
      /--server: what has a name or password in it is no address.*http:\/\/127\.0\.0\.1:8080.*--key \(FOREWORD_ADMIN/,
    );
    expect(refusal).not.toContain("hunter2");
    expect(asked).toEqual([]);
  },
);

test("an @ behind the host is of the path", async () => {
  await call({ server: `http://127.0.0.1:${port}/@bob` }, "GET", "/tasks");
  expect(asked).toEqual(["/@bob/tasks"]);
});

test("why no server answers is told, not only that it does not", async () => {
  await new Promise(resolve => server.close(resolve));
  for (const host of ["127.0.0.1", "localhost"])
    await expect(call({ server: `${host}:${port}` }, "GET", "/tasks")).rejects.toThrow(
      new RegExp(`No server answers at ${host}:${port}: fetch failed \\(.*ECONNREFUSED.*\\)\\. Start one`),
    );
});

/** What a server that answers so is called. */
async function refusalOf(answer: (response: ServerResponse) => void): Promise<unknown> {
  const other = createServer((_, response) => answer(response)).listen(0, "127.0.0.1");
  await new Promise(resolve => other.once("listening", resolve));
  const flags = { server: `127.0.0.1:${(other.address() as AddressInfo).port}` };
  return listAll(flags, "/tasks")
    .catch(error => error)
    .finally(() => other.close());
}

test.each([
  ["a page", "<!doctype html>"],
  ["nothing", ""],
  ["no object", "null"],
  ["no list", '{"tasks":[]}'],
])("what answers a list's request with %s is no Foreword server", async (_, body) => {
  expect(await refusalOf(response => response.end(body))).toMatchObject({
    code: "not_found",
    message: expect.stringMatching(/^What answers at 127.* is no Foreword server \(status 200\).*--server/),
  });
});

test.each([200, 422])("a connection that breaks in a reply of status %d is called so", async status => {
  const refusal = await refusalOf(response => {
    response.writeHead(status, { "content-type": "application/json", "content-length": 100 });
    response.write('{"items":[', () => setTimeout(() => response.destroy(), 20));
  });
  expect(refusal).toMatchObject({
    code: "not_ready",
    message: expect.stringMatching(/^The connection to 127.* broke .*\(.*closed.*\).*again/),
  });
});

test("a table takes more rows than a call takes arguments", () => {
  const rows = Array.from({ length: 200_000 }, (_, at) => [`label ${at}`, at]);
  expect(table(["label", "rows"], rows)).toContain("\nlabel 199999  199999\n");
});

test("a table's columns stand below one another on a terminal, where some characters take two and others none", () => {
  const rows = [
    ["好评价", 1, "x"],
    ["😀", 20, "x"],
    ["e\u0301te\u0301", 300, "x"],
  ];
  expect(table(["label", "rows", ""], rows)).toBe(
    ["label   rows", "好评价  1     x", "😀      20    x", "e\u0301te\u0301     300   x", ""].join("\n"),
  );
});

test("a table whose head has no word begins with its first row", () => {
  expect(
    table(
      ["", ""],
      [
        ["id", "reviews"],
        ["rows", 5],
      ],
    ),
  ).toBe("id    reviews\nrows  5\n");
  expect(table(["", "rows"], [["good", 5]])).toBe("      rows\ngood  5\n");
});

test("JSON of another program's is no problem of ours", async () => {
  const refusal = await refusalOf(response => {
    response.writeHead(404, { "content-type": "application/json" }).end('{"message":"no"}');
  });
  expect(String(refusal)).toMatch(/no Foreword server \(status 404\)/);
});

test("what was typed stays one part of a path", () => {
  expect(route`/datasets/${"../tasks/spam"}`).toBe("/datasets/..%2Ftasks%2Fspam");
  expect(route`/tasks/${"sentiment?x=1"}/infer`).toBe("/tasks/sentiment%3Fx%3D1/infer");
  expect(route`/tasks/${"a#b %2e"}/history?limit=${20}`).toBe("/tasks/a%23b%20%252e/history?limit=20");
  for (const name of ["", ".", ".."])
    expect(() => route`/tasks/${name}/prompts`).toThrow(`"${name}" names nothing on a server. Give an id`);
});

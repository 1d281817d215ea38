/** Lists that are longer than a page. */
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { expect, test } from "vitest";
import { listAll } from "../../../src/cli/request.ts";

test("every page of a list is asked for, with what was asked at first", async () => {
  const asked: string[] = [];
  const server = createServer((request, response) => {
    asked.push(request.url!);
    const page = asked.length;
    response.setHeader("content-type", "application/json");
    response.end(JSON.stringify({ items: [page], next_cursor: page < 3 ? `c ${page}` : null }));
  }).listen(0, "127.0.0.1");
  await new Promise(resolve => server.once("listening", resolve));
  try {
    const flags = { server: `http://127.0.0.1:${(server.address() as AddressInfo).port}` };
    expect(await listAll(flags, "/jobs?task=t")).toEqual({ items: [1, 2, 3] });
    expect(asked).toEqual([
      "/jobs?task=t&limit=1000",
      "/jobs?task=t&limit=1000&cursor=c+1",
      "/jobs?task=t&limit=1000&cursor=c+2",
    ]);
  } finally {
    server.close();
  }
});

import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { PassThrough } from "node:stream";
import { afterEach, expect, test, vi } from "vitest";
import { plainLines, untilReady } from "../../../src/cli/progress.ts";

afterEach(() => vi.restoreAllMocks());

/** The lines of a job that went through these steps. */
function linesOf(...went: [step: number, steps: number][]): string[] {
  const lines: string[] = [];
  vi.spyOn(process.stderr, "write").mockImplementation(text => lines.push(String(text).trim()) > 0);
  const line = plainLines();
  for (const [step, steps] of went)
    line.update({
      step,
      steps,
      loss: null,
      eta_seconds: null,
      examples_per_second: 1,
      validation: null,
    } as never);
  return lines;
}

test("without a terminal: a line each tenth", () => {
  const steps = Array.from({ length: 40 }, (_, at): [number, number] => [at + 1, 40]);
  expect(linesOf(...steps)).toEqual([4, 8, 12, 16, 20, 24, 28, 32, 36, 40].map(step => `step ${step}/40`));
});

test("without a terminal: training shows behind the donors' ranking, also where it has as many steps", () => {
  expect(linesOf([3, 3], [1, 20], [2, 20])).toEqual(["step 3/3", "step 2/20"]);
  expect(linesOf([20, 20], [1, 20], [2, 20])).toEqual(["step 20/20", "step 2/20"]);
  expect(linesOf([3, 3], [10, 20])).toEqual(["step 3/3", "step 10/20"]);
});

/** What a terminal shows of a start that is at `state` for a while. */
async function shown(
  state: object,
  isTTY: boolean,
): Promise<{ text: string; asked: number; refused: unknown }> {
  let asked = 0;
  const server = createServer((_, response) => {
    asked++;
    response.writeHead(503, { "content-type": "application/json" }).end(JSON.stringify(state));
  }).listen(0, "127.0.0.1");
  await new Promise(resolve => server.once("listening", resolve));
  const { port } = server.address() as AddressInfo;
  const terminal = Object.assign(new PassThrough(), { isTTY, columns: 60 });
  const ready = new Promise<void>((_, reject) => setTimeout(reject, 700, new Error("no backbone")));
  const refused = await untilReady({ address: `http://127.0.0.1:${port}`, ready }, terminal).catch(String);
  server.closeAllConnections();
  server.close();
  terminal.end();
  return { text: (await terminal.toArray()).join(""), asked, refused };
}

test("a start: its phase on a terminal, and how far it is where that is known; gone when it ends; what failed is told", async () => {
  const pulling = await shown({ phase: "pulling\u0007 x", progress: 0.427 }, true);
  expect(pulling).toMatchObject({
    text: expect.stringContaining("pulling x 42 %"),
    refused: "Error: no backbone",
  });
  // The line is cleared, and neither the cursor nor the wrapping of lines is ever switched off.
  expect(pulling.text.endsWith("\u001b[2K")).toBe(true);
  expect(pulling.text).not.toContain("\u001b[?");
  expect((await shown({ phase: "compiling", progress: null }, true)).text).toContain("compiling\u001b[");
});

test("a start: not a word elsewhere, and nobody asks", async () => {
  expect(await shown({ phase: "pulling x", progress: 0.5 }, false)).toEqual({
    text: "",
    asked: 0,
    refused: "Error: no backbone",
  });
});

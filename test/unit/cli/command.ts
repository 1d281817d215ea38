/** Commands in this process, asking a server that repeats one reply: what they ask, print and refuse. */
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { PassThrough } from "node:stream";
import type { Command } from "commander";
import { vi } from "vitest";

export interface Ran {
  /** The body of the one request, if there was any. */
  body: unknown;
  out: string;
  err: string;
  error: Error | null;
}

/** `input` is its standard input. */
export async function run(
  command: Command,
  args: readonly string[],
  { reply = {}, input = "" }: { reply?: object; input?: string | Uint8Array } = {},
): Promise<Ran> {
  const ran: Ran = { body: undefined, out: "", err: "", error: null };
  const server = createServer(async (request, response) => {
    let text = "";
    for await (const chunk of request) text += chunk;
    ran.body = JSON.parse(text);
    response.setHeader("content-type", "application/json").end(JSON.stringify(reply));
  }).listen(0, "127.0.0.1");
  await new Promise(resolve => server.once("listening", resolve));
  for (const each of [command, ...command.commands])
    each.exitOverride().configureOutput({ writeErr: text => (ran.err += text) });
  const stdin = new PassThrough();
  stdin.end(input);
  const spies = [
    vi.spyOn(process, "stdin", "get").mockReturnValue(stdin as never),
    vi.spyOn(process.stdout, "write").mockImplementation(text => {
      ran.out += text;
      return true;
    }),
    vi.spyOn(process.stderr, "write").mockImplementation(text => {
      ran.err += text;
      return true;
    }),
  ];
  try {
    const { port } = server.address() as AddressInfo;
    const [first = "", ...rest] = args;
    // In front of what may end in a list or behind --.
    await command.parseAsync([first, "--server", `127.0.0.1:${port}`, ...rest], { from: "user" });
  } catch (error) {
    ran.error = error as Error;
  } finally {
    for (const spy of spies) spy.mockRestore();
    server.close();
  }
  return ran;
}

/** Foreword under test: started as a child process, spoken to over HTTP. */
import { type ChildProcess, fork } from "node:child_process";
import { once } from "node:events";
import { rm } from "node:fs/promises";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import pMap from "p-map";
import type { InferReply, InferRequest } from "../../src/contract/infer.ts";

const host = fileURLToPath(new URL("./host.mjs", import.meta.url));
/** Kept between runs for its compiled backbone; the registry inside is new each time. */
export const dataFolder = (bench: string): string =>
  fileURLToPath(new URL(`../../.cache/bench-${bench}`, import.meta.url));

export class Product {
  readonly address: string;
  /** From the start of the process until it could answer. */
  readonly readyMs: number;
  readonly #child: ChildProcess;

  private constructor(child: ChildProcess, address: string, readyMs: number) {
    this.#child = child;
    this.address = address;
    this.readyMs = readyMs;
  }

  /** `bench` names the data folder; `settings` are environment variables. */
  static async start(bench = "serving", settings: Record<string, string> = {}): Promise<Product> {
    const data = dataFolder(bench);
    await rm(join(data, "registry"), { recursive: true, force: true });
    const started = performance.now();
    const child = fork(host, {
      env: {
        ...process.env,
        ...settings,
        FOREWORD_DATA: data,
        FOREWORD_PORT: "0",
        FOREWORD_LOG_LEVEL: "error",
      },
    });
    const [message] = await once(child, "message");
    if (message.type === "failed") throw new Error(`the server does not start: ${message.message}`);
    return new Product(child, message.address, performance.now() - started);
  }

  get pid(): number {
    return this.#child.pid!;
  }

  /** p99 of the event loop's delay while `work` runs, in milliseconds. */
  async loopDelay(work: () => Promise<unknown>): Promise<number> {
    this.#child.send("watch");
    await work();
    this.#child.send("delay");
    const [{ p99_ms }] = await once(this.#child, "message");
    return p99_ms;
  }

  async stop(): Promise<void> {
    this.#child.send("close");
    await once(this.#child, "exit");
  }

  post<Reply>(route: string, body: unknown, type?: string): Promise<Reply> {
    return this.#send("POST", route, body, type);
  }

  put<Reply>(route: string, body: unknown): Promise<Reply> {
    return this.#send("PUT", route, body);
  }

  async #send<Reply>(
    method: string,
    route: string,
    body: unknown,
    type = "application/json",
  ): Promise<Reply> {
    const response = await fetch(this.address + route, {
      method,
      headers: { "content-type": type },
      body: body instanceof Uint8Array ? body : JSON.stringify(body),
    });
    const reply = await response.json();
    if (!response.ok) throw new Error(`${method} ${route}: ${response.status} ${JSON.stringify(reply)}`);
    return reply as Reply;
  }

  async get<Reply>(route: string): Promise<Reply> {
    return (await fetch(this.address + route)).json() as Promise<Reply>;
  }

  /** A prompt version as its own file. */
  async promptFile(task: string, version: number): Promise<Uint8Array> {
    const response = await fetch(`${this.address}/tasks/${task}/prompts/${version}?format=safetensors`);
    if (!response.ok) throw new Error(`${task} ${version}: ${response.status} ${await response.text()}`);
    return new Uint8Array(await response.arrayBuffer());
  }

  async delete(route: string): Promise<void> {
    const response = await fetch(this.address + route, { method: "DELETE" });
    if (!response.ok) throw new Error(`DELETE ${route}: ${response.status} ${await response.text()}`);
  }

  infer(task: string, request: InferRequest): Promise<InferReply> {
    return this.post(`/tasks/${task}/infer`, request);
  }
}

/** `count` requests, `atOnce` of them under way at any time; resolves to the seconds that they took together. */
export async function load(
  count: number,
  atOnce: number,
  request: (index: number) => Promise<unknown>,
): Promise<number> {
  const ask = async (_: unknown, index: number) => {
    // No reply is kept: there may be many.
    await request(index);
  };
  const started = performance.now();
  await pMap(Array.from({ length: count }), ask, { concurrency: atOnce });
  return (performance.now() - started) / 1000;
}

/** `foreword serve` as a process of its own, which a test may stop in any way; its data folder outlives it. */
import { type ChildProcess, spawn } from "node:child_process";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { expect } from "vitest";
import { command } from "./command.ts";
import { shareCompiled } from "./compiled.ts";
import { freePort } from "./port.ts";

// biome-ignore lint/suspicious/noExplicitAny: a reply's shape is what the tests are about
type Json = any;

export class ServerProcess {
  readonly data: string;
  readonly #backbone: string;
  #child: ChildProcess | null = null;
  url = "";
  /** What it said since it began. */
  output = "";

  private constructor(data: string, backbone: string) {
    this.data = data;
    this.#backbone = backbone;
  }

  static async at(backbone: string): Promise<ServerProcess> {
    const data = await mkdtemp(join(tmpdir(), "foreword-process-"));
    await shareCompiled(data);
    return new ServerProcess(data, backbone);
  }

  get pid(): number {
    return this.#child!.pid!;
  }

  /** Resolves when it listens. */
  async begin(env: Record<string, string> = {}, nodeFlags: readonly string[] = []): Promise<void> {
    // The same after a restart: whoever watched it finds it again.
    const port = this.url === "" ? await freePort() : Number(new URL(this.url).port);
    this.url = `http://127.0.0.1:${port}`;
    this.output = "";
    const settings = {
      FOREWORD_DATA: this.data,
      FOREWORD_PORT: String(port),
      FOREWORD_MIRROR: dirname(this.#backbone),
      ...env,
    };
    const child = spawn(process.execPath, ["--import", "tsx", ...nodeFlags, command, "serve"], {
      env: { ...process.env, ...settings },
    });
    for (const stream of [child.stdout, child.stderr])
      stream.on("data", chunk => {
        this.output += chunk;
      });
    this.#child = child;
    await this.until(async () => (await this.get("/healthz")).status === 200, 110);
  }

  ready(): Promise<void> {
    return this.until(async () => (await this.get("/readyz")).status === 200, 150);
  }

  /** Its exit code; null where it was killed. */
  async stop(signal: NodeJS.Signals): Promise<number | null> {
    const child = this.#child;
    if (!child || child.exitCode !== null || child.signalCode !== null) return child?.exitCode ?? null;
    const ended = new Promise<number | null>(resolve => child.once("exit", resolve));
    child.kill(signal);
    return ended;
  }

  async remove(): Promise<void> {
    await this.stop("SIGKILL");
    await rm(this.data, { recursive: true, force: true });
  }

  async until(condition: () => Promise<boolean>, seconds = 60): Promise<void> {
    for (
      const end = Date.now() + seconds * 1000;
      Date.now() < end;
      await new Promise(resolve => setTimeout(resolve, 50))
    ) {
      if (await condition().catch(() => false)) return;
    }
    throw new Error(`not within ${seconds} s; the server said:\n${this.output.slice(-2000)}`);
  }

  get(route: string): Promise<Response> {
    return fetch(this.url + route);
  }

  post(route: string, body: object): Promise<Response> {
    return fetch(this.url + route, {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify(body),
    });
  }

  /** The body of an answer that must be good. */
  async json(answer: Promise<Response>): Promise<Json> {
    const response = await answer;
    const body = await response.json();
    expect(response.ok, JSON.stringify(body)).toBe(true);
    return body;
  }
}

/** Real Redis servers, alone, with a Sentinel or as a cluster, from the `redis-server` on PATH. */
import { type ChildProcess, spawn } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { Redis } from "ioredis";
import { freePort } from "./port.ts";

export class RedisServer {
  readonly port: number;
  readonly folder: string;
  readonly #settings: readonly string[];
  #child: ChildProcess | null = null;
  /** For what a test does behind the product's back. */
  readonly admin: Redis;

  private constructor(port: number, settings: readonly string[], admin: object) {
    this.port = port;
    this.folder = mkdtempSync(join(tmpdir(), "foreword-redis-"));
    this.#settings = settings;
    this.admin = new Redis({
      port,
      host: "127.0.0.1",
      maxRetriesPerRequest: null,
      retryStrategy: () => 50,
      lazyConnect: true,
      ...admin,
    });
    this.admin.on("error", () => {});
  }

  /** `settings` as redis.conf has them: `["--maxmemory", "10mb"]`; with `admin.tls` it speaks TLS alone. */
  static async start(settings: readonly string[] = [], admin: object = {}): Promise<RedisServer> {
    const server = new RedisServer(await freePort(), settings, admin);
    await server.begin();
    return server;
  }

  get url(): string {
    return `redis://127.0.0.1:${this.port}`;
  }

  /** Again after a stop, on the same port with what it saved. */
  async begin(): Promise<void> {
    const port = this.admin.options.tls
      ? ["--port", "0", "--tls-port", `${this.port}`]
      : ["--port", `${this.port}`];
    const child = spawn(
      "redis-server",
      [...port, "--bind", "127.0.0.1", "--dir", this.folder, "--save", "", ...this.#settings],
      { stdio: "ignore" },
    );
    this.#child = child;
    await this.admin.ping();
  }

  async stop(signal: NodeJS.Signals = "SIGKILL"): Promise<void> {
    const child = this.#child;
    this.#child = null;
    if (!child || child.exitCode !== null) return;
    const ended = new Promise(resolve => child.once("exit", resolve));
    child.kill(signal);
    await ended;
  }

  async remove(): Promise<void> {
    this.admin.disconnect();
    await this.stop();
    rmSync(this.folder, { recursive: true, force: true });
  }
}

/** One Sentinel that watches a master under the name "main"; alone it decides. */
export async function startSentinel(master: RedisServer): Promise<{ port: number; remove: () => void }> {
  const port = await freePort();
  const folder = mkdtempSync(join(tmpdir(), "foreword-sentinel-"));
  const settings = [
    `port ${port}`,
    `dir ${folder}`,
    `sentinel monitor main 127.0.0.1 ${master.port} 1`,
    "sentinel down-after-milliseconds main 500",
    "sentinel failover-timeout main 3000",
  ];
  const file = join(folder, "sentinel.conf");
  writeFileSync(file, `${settings.join("\n")}\n`);
  const child = spawn("redis-server", [file, "--sentinel"], { stdio: "ignore" });
  return {
    port,
    remove: () => {
      child.kill("SIGKILL");
      rmSync(folder, { recursive: true, force: true });
    },
  };
}

const SLOTS = 16384;

/** Masters that share the slots evenly. */
export class RedisCluster {
  readonly nodes: RedisServer[];

  private constructor(nodes: RedisServer[]) {
    this.nodes = nodes;
  }

  static async start(masters = 3): Promise<RedisCluster> {
    const nodes = await Promise.all(
      Array.from({ length: masters }, async () =>
        RedisServer.start([
          ...["--cluster-enabled", "yes", "--cluster-node-timeout", "2000"],
          ...["--cluster-port", `${await freePort()}`],
        ]),
      ),
    );
    const first = nodes[0]!;
    for (const [at, { admin }] of nodes.entries()) {
      const [from, to] = [at, at + 1].map(edge => Math.floor((edge * SLOTS) / masters)) as [number, number];
      await admin.call("CLUSTER", "ADDSLOTSRANGE", from, to - 1);
      await admin.call("CLUSTER", "SET-CONFIG-EPOCH", at + 1);
      if (at > 0) await RedisCluster.#meet(admin, first);
    }
    const cluster = new RedisCluster(nodes);
    await cluster.#until(async ({ admin }) => {
      const info = String(await admin.call("CLUSTER", "INFO"));
      return info.includes("cluster_state:ok") && info.includes(`cluster_known_nodes:${masters}`);
    });
    return cluster;
  }

  static async #meet(admin: Redis, { port, admin: other }: RedisServer): Promise<void> {
    const [, bus] = (await other.call("CONFIG", "GET", "cluster-port")) as [string, string];
    await admin.call("CLUSTER", "MEET", "127.0.0.1", port, bus);
  }

  /** `options` as in `?wait=0`. */
  url(options = ""): string {
    return `redis-cluster://${this.nodes.map(({ port }) => `127.0.0.1:${port}`).join(",")}${options}`;
  }

  async flush(): Promise<void> {
    for (const { admin } of this.nodes) await admin.flushall();
  }

  async remove(): Promise<void> {
    await Promise.all(this.nodes.map(node => node.remove()));
  }

  async #until(condition: (node: RedisServer) => Promise<boolean>): Promise<void> {
    for (const end = Date.now() + 20_000; Date.now() < end; await sleep(50))
      if ((await Promise.all(this.nodes.map(condition))).every(Boolean)) return;
    throw new Error("the cluster does not come together");
  }
}

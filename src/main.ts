/** Foreword as one process: the registry opened, the engine started, the server listening at once. */
import { readFileSync } from "node:fs";
import type { Config } from "./config.ts";
import { createEngine } from "./engine/host.ts";
import { openEmbeddedJobs } from "./jobs/embedded.ts";
import { createRunner } from "./jobs/runner.ts";
import { createLogger } from "./observe/log.ts";
import { createMetrics } from "./observe/metrics.ts";
import { openRegistry } from "./registry/open.ts";
import { createApp } from "./server/app.ts";
import { loadLibrary } from "./server/library.ts";
import { Serving } from "./server/serving.ts";

const package_ = new URL("../package.json", import.meta.url);
export const version: string = JSON.parse(readFileSync(package_, "utf8")).version;

/** How often what nothing names any more is removed. */
const SWEEP_MS = 3_600_000;

export interface Running {
  /** Where it listens, as a URL. */
  address: string;
  /** Resolves when requests can be answered; rejects when the backbone cannot be had. */
  ready: Promise<void>;
  /** Refuses new inference, finishes what is running, and closes everything. */
  close(): Promise<void>;
}

/** Throws when the port is taken, when another process has the data folder open, or when Redis can't be reached. */
export async function start(config: Config): Promise<Running> {
  const log = createLogger(config.logLevel);
  const metrics = createMetrics();
  const registry = await openRegistry(config, log);
  const serving = new Serving(registry);
  const { backbone, data, mirror, runtime, threads, precision, cacheBytes, batchTokens, queue } = config;
  const engine = createEngine({
    backbone,
    data,
    ...(mirror !== undefined && { mirror }),
    runtime,
    threads,
    precision,
    cacheBytes,
    batchTokens,
    queue,
    prompts: serving,
    log,
  });
  const jobs = await openEmbeddedJobs({
    registry,
    log,
    runner: createRunner({
      registry,
      engine,
      place: {
        backbone,
        data,
        ...(mirror !== undefined && { mirror }),
        runtime,
        threads: config.trainThreads,
      },
      watchBusy: listener => engine.watchBusy(listener),
      log,
    }),
  });
  let prepared = false;
  const { app, drain } = await createApp({
    config,
    engine,
    registry,
    jobs,
    serving,
    metrics,
    version,
    log,
    prepared: () => prepared,
  });
  const address = await app.listen({ host: config.host, port: config.port });
  const ready = engine
    .ready()
    .then(() => loadLibrary(registry, engine, log))
    .then(() => {
      prepared = true;
    });
  ready.catch(error => log.error({ err: error }, "the server cannot answer"));

  // Blobs that nothing names and replies that expired; the first round right away, for what a crash left behind.
  const sweep = () => void registry.sweep().catch(error => log.error({ err: error }, "the sweep failed"));
  sweep();
  const sweeping = setInterval(sweep, SWEEP_MS).unref();

  const close = async () => {
    drain();
    clearInterval(sweeping);
    await jobs.close();
    await app.close();
    serving.close();
    await engine.close();
    await registry.close();
  };
  return { address, ready, close };
}

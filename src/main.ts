/** Foreword as one process: the registry opened, the engine started, the server listening at once; or a worker. */
import type { Config } from "./config.ts";
import type { Engine, EngineState } from "./engine/engine.ts";
import { createEngine } from "./engine/host.ts";
import { ForewordError } from "./errors.ts";
import { openEmbeddedJobs } from "./jobs/embedded.ts";
import type { Jobs } from "./jobs/jobs.ts";
import { createRunner } from "./jobs/runner.ts";
import { createLogger, type Logger } from "./observe/log.ts";
import { createMetrics } from "./observe/metrics.ts";
import { openRegistry } from "./registry/open.ts";
import type { Registry } from "./registry/registry.ts";
import type { LoadOptions } from "./runtime/runtime.ts";
import { createApp } from "./server/app.ts";
import { loadLibraryPatiently } from "./server/library.ts";
import { Serving } from "./server/serving.ts";
import { version } from "./version.ts";

/** How often what nothing names any more is removed. */
const SWEEP_MS = 3_600_000;

export interface Running {
  /** Where it listens, as a URL. */
  address: string;
  /** Resolves when requests can be answered; rejects where the backbone can't be had, or, unless patient, not now. */
  ready: Promise<void>;
  /** Refuses new inference, finishes what is running, and closes everything. */
  close(): Promise<void>;
}

/** What runs jobs in this process or, where Redis is, wherever there is a worker. */
async function openJobs(
  config: Config,
  { registry, engine, log }: Opened,
  runs: "here" | "elsewhere",
): Promise<Jobs> {
  const { backbone, data, runtime, trainThreads: threads } = config;
  const runner = createRunner({
    registry,
    engine,
    place: { backbone, data, runtime, threads },
    watchBusy: listener => engine.watchBusy(listener),
    log,
  });
  if (config.jobs === "embedded") return openEmbeddedJobs({ registry, runner, log });
  // Loaded by those alone who have a Redis: it is a fifth of the command line's start.
  const [{ openBullJobs }, { jobClients }] = await Promise.all([
    import("./jobs/bullmq.ts"),
    import("./registry/redis-client.ts"),
  ]);
  const connect = jobClients(config.registry, log);
  const worker = runs === "here" && { runner, backbone: engine.backbone().fingerprint };
  return openBullJobs({ registry, connect, log, ...worker });
}

interface Opened {
  registry: Registry;
  serving: Serving;
  engine: Engine;
  log: Logger;
}

/** The engine loads on; `load` says how it holds the weights. */
async function open(
  config: Config,
  {
    load,
    patient,
    log = createLogger(config.logLevel),
  }: { load?: LoadOptions; patient: boolean; log?: Logger | undefined },
): Promise<Opened> {
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
    ...(load && { load }),
    patient,
    prompts: serving,
    log,
  });
  return { registry, serving, engine, log };
}

/**
 * Throws when the port is taken, when another process has the data folder open, or when Redis can't be reached.
 * `patient`: whether a backbone that can't be fetched is waited for. `log`: instead of lines on stdout.
 */
export async function start(
  config: Config,
  { patient = true, log: given }: { patient?: boolean; log?: Logger } = {},
): Promise<Running> {
  const opened = await open(config, { patient, log: given });
  const { registry, serving, engine, log } = opened;
  const metrics = createMetrics();
  let library: EngineState = { status: "loading", phase: "registering the bundled tasks", progress: null };
  let jobs: Jobs | null = null;
  let served: Awaited<ReturnType<typeof createApp>> | null = null;
  const closing = new AbortController();
  const close = async () => {
    closing.abort();
    served?.drain();
    await jobs?.close();
    await served?.app.close();
    serving.close();
    await engine.close();
    await registry.close();
  };
  let address: string;
  try {
    jobs = await openJobs(config, opened, "elsewhere");
    const shown = { version, log, library: () => library };
    served = await createApp({ config, engine, registry, jobs, serving, metrics, ...shown });
    address = await listen(served.app, config);
  } catch (error) {
    // What has begun would keep the process alive, without a port.
    await close();
    throw error;
  }
  const ready = engine
    .ready()
    .then(() => loadLibraryPatiently(registry, engine, log, closing.signal))
    .then(
      () => {
        library = { status: "ready", phase: "ready", progress: 1 };
      },
      error => {
        library = { ...library, status: "failed", error: ForewordError.from(error).message };
        throw error;
      },
    );
  ready.catch(error => closing.signal.aborted || log.error({ err: error }, "the server cannot answer"));

  // Old jobs, blobs that nothing names and replies that expired; the first round right away, for what a crash left behind.
  const sweep = () => void registry.sweep().catch(error => log.error({ err: error }, "the sweep failed"));
  sweep();
  const sweeping = setInterval(sweep, SWEEP_MS).unref();

  return {
    address,
    ready,
    close: () => {
      clearInterval(sweeping);
      return close();
    },
  };
}

async function listen(
  app: Awaited<ReturnType<typeof createApp>>["app"],
  { host, port }: Config,
): Promise<string> {
  try {
    // For localhost fastify would start a second server, bare of what is set on the first, at its other address.
    return await app.listen({ host: host === "localhost" ? "127.0.0.1" : host, port });
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException;
    const why = code === "EADDRINUSE" ? "another process listens there" : message;
    throw new ForewordError(
      "validation",
      `The server can't listen at ${host}, port ${port} (${why}). Choose others with --host and --port (FOREWORD_HOST, FOREWORD_PORT).`,
      { setting: code === "EADDRINUSE" || code === "EACCES" ? "port" : "host" },
    );
  }
}

/**
 * Runs jobs from a queue that servers share, one at a time. It answers nobody: its engine only checks prompts, with
 * weights that it shares with the trainers. Throws when there is no such queue, or when Redis can't be reached.
 */
export async function startWorker(config: Config): Promise<Pick<Running, "ready" | "close">> {
  if (config.jobs === "embedded")
    throw new ForewordError(
      "validation",
      "Without Redis the server runs its jobs itself, and needs no worker. Set FOREWORD_REGISTRY to the Redis that the servers use.",
      { setting: "registry" },
    );
  const opened = await open(config, { load: { packed: false, memory: "returned" }, patient: true });
  const { registry, serving, engine, log } = opened;
  let jobs: Jobs | null = null;
  // No job is taken before it can be run.
  const ready = engine.ready().then(async () => {
    jobs = await openJobs(config, opened, "here");
    log.info({}, "the worker takes jobs");
  });
  const close = async () => {
    // Ends its loading; jobs that run need it until they have stopped.
    if (jobs === null) await engine.close();
    await ready.catch(() => {});
    await jobs?.close();
    serving.close();
    await engine.close();
    await registry.close();
  };
  return { ready, close };
}

/** What `GET /metrics` shows, in Prometheus' text format. Made by a function, so that two servers share nothing. */
import { Counter, collectDefaultMetrics, Gauge, Histogram, Registry } from "prom-client";

export type Metrics = ReturnType<typeof createMetrics>;

const requestSeconds = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60];

/** Durations are in seconds, sizes in bytes, as Prometheus' conventions ask; the process's own metrics come along. */
export function createMetrics() {
  const register = new Registry();
  const registers = [register];
  collectDefaultMetrics({ register });
  const route = ["route", "method", "status"] as const;
  return {
    register,
    requests: new Counter({
      name: "foreword_http_requests_total",
      help: "HTTP requests answered.",
      labelNames: route,
      registers,
    }),
    requestSeconds: new Histogram({
      name: "foreword_http_request_seconds",
      help: "From a request's arrival to the end of its reply.",
      labelNames: route,
      buckets: requestSeconds,
      registers,
    }),
    inferRows: new Counter({
      name: "foreword_infer_rows_total",
      help: "Inputs answered.",
      registers,
    }),
    splitAnswers: new Counter({
      name: "foreword_split_answers_total",
      help: "Inputs of tasks whose traffic is split, by the version that answered.",
      labelNames: ["task", "version"] as const,
      registers,
    }),
    shadowAnswers: new Counter({
      name: "foreword_shadow_answers_total",
      help: "Inputs that a shadow was asked too, by what came of it (agreed, differed, failed, dropped).",
      labelNames: ["task", "version", "outcome"] as const,
      registers,
    }),
    inferTokens: new Counter({
      name: "foreword_infer_tokens_total",
      help: "Tokens worked on, by phase (prefill, decode).",
      labelNames: ["phase"] as const,
      registers,
    }),
    steps: new Counter({ name: "foreword_steps_total", help: "Steps of the engine.", registers }),
    stepSeconds: new Counter({
      name: "foreword_step_seconds_total",
      help: "Time that the engine's steps took.",
      registers,
    }),
    queueDepth: new Gauge({ name: "foreword_queue_rows", help: "Rows that wait.", registers }),
    runningRows: new Gauge({ name: "foreword_running_rows", help: "Rows being worked on.", registers }),
    prefixHits: new Counter({
      name: "foreword_prefix_cache_hits_total",
      help: "Rows whose KV prefix was cached.",
      registers,
    }),
    prefixMisses: new Counter({
      name: "foreword_prefix_cache_misses_total",
      help: "Rows whose KV prefix was not: they waited for it.",
      registers,
    }),
    prefixBytes: new Gauge({
      name: "foreword_prefix_cache_bytes",
      help: "Size of the cached KV prefixes.",
      registers,
    }),
    /** Has a label, so that it can say nothing at all while the registry is away. */
    jobs: new Gauge({
      name: "foreword_jobs",
      help: "Jobs of all servers that have not ended: runnable (one of a task, for this backbone) or waiting, behind one of their task or for another backbone.",
      labelNames: ["state"] as const,
      registers,
    }),
    runtimeInfo: new Gauge({
      name: "foreword_runtime_info",
      help: "Always 1; the labels say what executes the model.",
      labelNames: ["runtime", "backend", "version"] as const,
      registers,
    }),
  };
}

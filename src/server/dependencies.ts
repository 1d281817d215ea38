import type { IncomingMessage, ServerResponse } from "node:http";
import type { TypeBoxTypeProvider } from "@fastify/type-provider-typebox";
import type { FastifyBaseLogger, FastifyInstance, RawServerDefault } from "fastify";
import type { Config } from "../config.ts";
import type { Engine, EngineState } from "../engine/engine.ts";
import type { Jobs } from "../jobs/jobs.ts";
import type { Metrics } from "../observe/metrics.ts";
import type { Registry } from "../registry/registry.ts";
import type { Serving } from "./serving.ts";
import type { Shadows } from "./shadows.ts";

/** What every resource is given. */
export interface Dependencies {
  config: Config;
  engine: Engine;
  registry: Registry;
  jobs: Jobs;
  serving: Serving;
  shadows: Shadows;
  metrics: Metrics;
  version: string;
  /** How far the bundled tasks are, which the first start registers after loading the backbone. */
  library: () => EngineState;
  /** True once the server is shutting down. */
  draining: () => boolean;
}

export type App = FastifyInstance<
  RawServerDefault,
  IncomingMessage,
  ServerResponse,
  FastifyBaseLogger,
  TypeBoxTypeProvider
>;
export type Resource = (app: App, dependencies: Dependencies) => void;

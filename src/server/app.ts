/** The HTTP server as one Fastify app: what it is made of, in the order in which a request meets it. */
import { createHash, randomUUID, timingSafeEqual } from "node:crypto";
import type { TypeBoxTypeProvider } from "@fastify/type-provider-typebox";
import fastify, { type FastifyBaseLogger, type FastifyRequest } from "fastify";
import { FastifySSEPlugin } from "fastify-sse-v2";
import { ForewordError } from "../errors.ts";
import type { Logger } from "../observe/log.ts";
import { active } from "./active.ts";
import { backup } from "./backup.ts";
import { installBodies } from "./bodies.ts";
import { datasets } from "./datasets.ts";
import type { App, Dependencies, Resource } from "./dependencies.ts";
import { donors } from "./donors.ts";
import { evaluate } from "./evaluate.ts";
import { whenGone } from "./gone.ts";
import { infer } from "./infer.ts";
import { jobs } from "./jobs.ts";
import { refuseOtherNames, refuseOtherSites } from "./origin.ts";
import { positions } from "./positions.ts";
import { frameworkErrors, installProblems } from "./problems.ts";
import { prompts } from "./prompts.ts";
import { installReference, needsKey } from "./reference.ts";
import { RequestLog } from "./request-log.ts";
import { retrain } from "./retrain.ts";
import { search } from "./search.ts";
import { Shadows } from "./shadows.ts";
import { similarity } from "./similarity.ts";
import { status } from "./status.ts";
import { tasks } from "./tasks.ts";
import { train } from "./train.ts";
import { refuseUnreadable } from "./unreadable.ts";
import { validatorCompiler } from "./validation.ts";

/** The status that is counted when a caller did not wait for the reply, as nginx does. */
const GONE = 499;
/** Milliseconds for a request to come whole: the largest data set at 0.5 MB a second. Who stalls is not kept for ever. */
const RECEIVED = 600_000;
/** Milliseconds that a server which closes leaves to requests: a body that stalls, or a long answer, would hold it open. */
const LINGER = 25_000;

const resources: Resource[] = [
  status,
  tasks,
  prompts,
  active,
  infer,
  train,
  retrain,
  evaluate,
  search,
  similarity,
  donors,
  positions,
  jobs,
  datasets,
  backup,
];

export interface AppOptions extends Omit<Dependencies, "draining" | "shadows"> {
  log: Logger;
}

export async function createApp({ log, ...given }: AppOptions): Promise<{ app: App; drain: () => void }> {
  let draining = false;
  const shadows = new Shadows(given);
  const unwatch = given.registry.watch(({ kind }) => {
    if (kind === "reload") shadows.doubt();
  });
  const dependencies: Dependencies = { ...given, shadows, draining: () => draining };
  const app: App = fastify({
    loggerInstance: log as FastifyBaseLogger,
    logController: new RequestLog(),
    bodyLimit: given.config.bodyLimit,
    genReqId: request => String(request.headers["x-request-id"] ?? randomUUID()),
    forceCloseConnections: "idle",
    return503OnClosing: false,
    requestTimeout: RECEIVED,
    http: { connectionsCheckingInterval: 1000 },
    frameworkErrors,
    clientErrorHandler: refuseUnreadable,
    routerOptions: { maxParamLength: 256, ignoreTrailingSlash: true },
  }).withTypeProvider<TypeBoxTypeProvider>();

  app.setValidatorCompiler(validatorCompiler);
  installBodies(app);
  installProblems(app);
  app.addHook("onRequest", async (request, reply) => {
    reply.header("X-Request-Id", request.id);
    whenGone(reply, () => {
      request.log.info({ req: request }, "the caller went away");
      given.metrics.requests.inc(labels(request, GONE));
    });
    if (given.config.adminKey === undefined) {
      refuseOtherNames(request, given.config);
      refuseOtherSites(request);
    } else authorise(given.config.adminKey, request.url, request.headers.authorization);
  });
  const labels = (request: FastifyRequest, status: number) => ({
    route: request.routeOptions.url ?? "none",
    method: request.method,
    status: String(status),
  });
  // A connection that is busy when the server begins to close would be kept alive, and the server with it.
  app.addHook("onSend", async (_, reply) => {
    if (draining) reply.header("Connection", "close");
  });
  app.addHook("onResponse", async (request, reply) => {
    // Its headers, a stream's among them, were sent before, and promised to keep it.
    if (draining && reply.getHeader("Connection") !== "close") request.raw.socket.end();
    given.metrics.requests.inc(labels(request, reply.statusCode));
    given.metrics.requestSeconds.observe(labels(request, reply.statusCode), reply.elapsedTime / 1000);
  });

  await app.register(FastifySSEPlugin, { retryDelay: false });
  await installReference(app, given.version, given.config.adminKey !== undefined);
  for (const resource of resources) await app.register(async scope => resource(scope as App, dependencies));

  return {
    app,
    drain: () => {
      draining = true;
      unwatch();
      shadows.close();
      setTimeout(() => app.server.closeAllConnections(), LINGER).unref();
    },
  };
}

const digest = (text: string) => createHash("sha256").update(text).digest();

function authorise(key: string, url: string, header: string | undefined): void {
  if (!needsKey(url.split("?")[0]!)) return;
  const sent = header && /^bearer +(.+)$/i.exec(header)?.[1];
  if (sent && timingSafeEqual(digest(sent), digest(key))) return;
  throw new ForewordError(
    "unauthorized",
    "This server asks for a key. Send the header Authorization: Bearer <key>.",
  );
}
